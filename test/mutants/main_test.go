package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestTheListFitsTheCode: every text that is to be broken is there, once, so that the long run (make mutants) tries what the list names.
func TestTheListFitsTheCode(t *testing.T) {
	text, err := os.ReadFile("mutants.txt")
	if err != nil {
		t.Fatal(err)
	}
	list, err := parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if _, err = m.overlay("../..", t.TempDir()); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if len(m.tests) == 0 || m.why == "" {
			t.Errorf("%s: no test must notice it, or it does not say why it matters", m.name)
		}
	}
	page, err := os.ReadFile("../../docs/correctness.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("breaks the product in %d ways", len(list)); !strings.Contains(string(page), want) {
		t.Errorf("docs/correctness.md does not say %q", want)
	}
}
