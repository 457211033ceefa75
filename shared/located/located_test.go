package located_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/shared/located"
)

func read(t *testing.T, text string) located.Node {
	t.Helper()
	n, problems := located.Parse("f.yaml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return n
}

func TestProblemString(t *testing.T) {
	for want, p := range map[string]located.Problem{
		"f.yaml:3:7: a.b: wrong": {File: "f.yaml", Line: 3, Column: 7, Field: "a.b", Text: "wrong"},
		"f.yaml:3:7: wrong":      {File: "f.yaml", Line: 3, Column: 7, Text: "wrong"},
		"f.yaml: empty":          {File: "f.yaml", Text: "empty"},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	var err error = located.Problems{{File: "f", Text: "one"}, {File: "f", Text: "two"}}
	if err.Error() != "f: one\nf: two" {
		t.Errorf("all problems: %q", err)
	}
}

func TestScalars(t *testing.T) {
	root := read(t, "int: 1_000\nquoted: \"7\"\nduration: 1m30s\nbool: true\nword: hold\nlist: [a, 2, 0.5, true]\nblock: |\n  two\n  lines\n")
	m := root.Map("int", "quoted", "duration", "bool", "word", "list", "block", "absent")
	if got := located.Or(m.Get("int"), 0, "a number", located.Int(0, 1000)); got != 1000 {
		t.Errorf("int %d", got)
	}
	if got := located.Or(m.Get("quoted"), 0, "a number", located.Int(0, 10)); got != 7 {
		t.Errorf("quoted %d", got)
	}
	if got := located.Or(m.Get("duration"), 0, "a duration", located.Duration(0, time.Hour)); got != 90*time.Second {
		t.Errorf("duration %v", got)
	}
	if got := located.Or(m.Get("bool"), false, "true or false", located.Bool); !got {
		t.Error("bool is false")
	}
	if got := located.Or(m.Get("word"), "", "a word", located.OneOf("down", "hold")); got != "hold" {
		t.Errorf("word %q", got)
	}
	if got := located.Or(m.Get("absent"), 5, "a number", located.Int(0, 10)); got != 5 {
		t.Errorf("absent %d", got)
	}
	var texts []string
	for _, item := range m.Get("list").List() {
		s, _ := item.Text("text")
		texts = append(texts, item.Field()+"="+s)
	}
	if diff := cmp.Diff([]string{"list[0]=a", "list[1]=2", "list[2]=0.5", "list[3]=true"}, texts); diff != "" {
		t.Error(diff)
	}
	if s, _ := m.Get("block").Text("text"); s != "two\nlines\n" {
		t.Errorf("block %q", s)
	}
	if p := root.Problems(); len(p) > 0 {
		t.Errorf("problems in a good file: %v", p)
	}
}

func TestScalarsOutOfBounds(t *testing.T) {
	root := read(t, "int: 11\nduration: 2h\nbool: yes\nword: hodl\nnumber: x\n")
	m := root.Map("int", "duration", "bool", "word", "number")
	located.Or(m.Get("word"), "", "down or hold", located.OneOf("down", "hold"))
	located.Or(m.Get("bool"), false, "true or false", located.Bool)
	located.Or(m.Get("duration"), 0, "at most 1h", located.Duration(0, time.Hour))
	located.Or(m.Get("int"), 0, "0 to 10", located.Int(0, 10))
	located.Value(m.Get("number"), "nothing at all", func(string) (int, error) { return 0, errors.New("never right") })
	want := `f.yaml:1:6: int: found "11": want 0 to 10
f.yaml:2:11: duration: found "2h": want at most 1h
f.yaml:3:7: bool: found "yes": want true or false
f.yaml:4:7: word: found "hodl" (did you mean hold?): want down or hold
f.yaml:5:9: number: never right: want nothing at all`
	if diff := cmp.Diff(want, root.Problems().Error()); diff != "" {
		t.Error(diff)
	}
}

func TestSuggestions(t *testing.T) {
	for key, want := range map[string]string{
		"holdown": "did you mean holdDown?", "HOLDDOWN": "did you mean holdDown?", "silenec": "did you mean silence?", "banana": "unknown field; known here",
	} {
		root := read(t, key+": 1\n")
		root.Map("silence", "holdDown")
		if got := root.Problems().Error(); !strings.Contains(got, want) {
			t.Errorf("%s: %s", key, got)
		}
	}
}

func TestNullCountsAsMissing(t *testing.T) {
	root := read(t, "a: null\nb: ~\nc:\nd: {}\n")
	m := root.Map("a", "b", "c", "d")
	for _, key := range []string{"a", "b", "c"} {
		m.Need(key, "something")
	}
	if !m.Need("d", "something").Present() {
		t.Error("an empty mapping counts as missing")
	}
	if p := root.Problems(); len(p) != 3 || p[2].String() != "f.yaml:3:1: c: missing: want something" {
		t.Errorf("got %v", p)
	}
}

func TestZeroNode(t *testing.T) {
	var n located.Node
	n.Reportf("into the void")
	if n.Present() || n.Problems() != nil || n.List() != nil || n.Map("a").Get("a").Present() {
		t.Error("the zero node is not empty")
	}
}

// TestLimits: what would make the parser slow or deep is refused before it runs.
func TestLimits(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"size":     {strings.Repeat("a", located.MaxSize+1), "f.yaml: the file has 1048577 bytes: want at most 1048576"},
		"brackets": {strings.Repeat("[", 100_000), "f.yaml:1:33: nested too deeply here: want at most 32 levels"},
		"braces":   {strings.Repeat("{a: ", 100_000), "f.yaml:1:129: nested too deeply here: want at most 32 levels"},
		"dashes":   {strings.Repeat("- ", 100_000), "f.yaml:1:65: nested too deeply here: want at most 32 levels"},
	} {
		_, problems := located.Parse("f.yaml", []byte(tt.text))
		if len(problems) != 1 || problems.Error() != tt.want {
			t.Errorf("%s: %v", name, problems)
		}
	}
	if _, problems := located.Parse("f.yaml", []byte(strings.Repeat("[", 32)+strings.Repeat("]", 32))); len(problems) > 0 {
		t.Errorf("32 levels: %v", problems)
	}
	if _, problems := located.Parse("f.yaml", []byte(strings.Repeat("- []\n", 1000))); len(problems) > 0 {
		t.Errorf("a long list is not a deep one: %v", problems)
	}
}

func TestScalar(t *testing.T) {
	m := read(t, "word: none\nnumber: 1\nnull: null\nmap: {a: 1}\nblock:\n  a: 1\nlist: [a]\n").Map("word", "number", "null", "map", "block", "list", "absent")
	for key, want := range map[string]bool{"word": true, "number": true, "null": false, "map": false, "block": false, "list": false, "absent": false} {
		if got := m.Get(key).Scalar(); got != want {
			t.Errorf("%s: %t, want %t", key, got, want)
		}
	}
}
