package documents

import (
	"fmt"
	"testing"
)

// What is asked for stays; what nobody asks for is forgotten; no generation grows above its bound.
func TestTwoGenerations(t *testing.T) {
	c := newCache[string](100)
	keep := func(name string, size int) { c.keep(name, kept[string]{doc: "text of " + name, etag: "e", size: size}) }
	expect := func(name string, there bool) {
		t.Helper()
		if k := c.get(name); k.is("e") != there || there && k.doc != "text of "+name {
			t.Errorf("%s: kept %+v, want it there: %t", name, k, there)
		}
	}
	expect("nothing", false)
	keep("used", 10)
	keep("unused", 10)
	for i := range 50 {
		keep(fmt.Sprint("other ", i), 30)
		expect("used", true)
		if c.size > 100 {
			t.Fatalf("%d bytes, at most 100", c.size)
		}
	}
	expect("unused", false)
	if n := len(c.young) + len(c.old); n > 8 {
		t.Errorf("%d documents are kept", n)
	}
	keep("used", 101)
	expect("used", false) // too large, and the one before is outdated
}

func TestNewerTakesThePlace(t *testing.T) {
	c := newCache[int](100)
	for i := range 1000 {
		c.keep("doc", kept[int]{doc: i, etag: fmt.Sprint(i), size: 40})
	}
	if k := c.get("doc"); k.doc != 999 || k.is("998") || !k.is("999") || c.size != 40 {
		t.Errorf("%+v, %d bytes", k, c.size)
	}
}

// A store that gives no ETag gives nothing that could be kept.
func TestNoETagIsNoDocument(t *testing.T) {
	c := newCache[int](100)
	c.keep("doc", kept[int]{doc: 1, size: 1})
	if c.get("doc").is("") {
		t.Error("a document without an ETag is taken for known")
	}
}
