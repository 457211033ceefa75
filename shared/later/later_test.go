package later_test

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/later"
)

// doc is a document as this version knows it.
type doc struct {
	A    int            `json:"a"`
	Big  uint64         `json:"big,omitempty"`
	B    *part          `json:"b,omitempty"`
	List []part         `json:"list,omitempty"`
	Map  map[string]int `json:"map,omitempty"`
}

type part struct {
	C int `json:"c"`
}

// written is what becomes of a text after edit.
func written(t *testing.T, text string, edit func(*doc)) string {
	t.Helper()
	d, more, err := later.Decode([]byte(text), func() *doc { return &doc{} })
	if err != nil {
		t.Fatal(err)
	}
	known, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var rest later.Rest
	if more {
		rest = later.Rest{All: text, Known: string(known)}
	}
	edit(d)
	now, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	out, err := rest.Add(now)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestWhatStays(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		edit       func(*doc)
		want       string
	}{
		{"nothing unknown", `{"a":1}`, func(d *doc) { d.A = 2 }, `{"a":2}`},
		{"nothing changed", `{"more":{"x":[1,null]},"a":1,"b":{"new":3,"c":2}}`, func(*doc) {}, `{"a":1,"b":{"c":2,"new":3},"more":{"x":[1,null]}}`},
		{"a field of the document stays whatever changes", `{"a":1,"more":4}`, func(d *doc) { d.A = 2 }, `{"a":2,"more":4}`},
		{"a part that did not change stays whole", `{"a":1,"b":{"c":2,"new":3}}`, func(d *doc) { d.A = 2 }, `{"a":2,"b":{"c":2,"new":3}}`},
		{"a part that changed is this version's", `{"a":1,"b":{"c":2,"new":3}}`, func(d *doc) { d.B.C = 9 }, `{"a":1,"b":{"c":9}}`},
		{"a part that is gone stays gone", `{"a":1,"b":{"c":2,"new":3}}`, func(d *doc) { d.B = nil }, `{"a":1}`},
		{"a part that is new", `{"a":1,"more":4}`, func(d *doc) { d.B = &part{5} }, `{"a":1,"b":{"c":5},"more":4}`},
		{
			"elements are known by what they say", `{"a":1,"list":[{"c":1,"new":"one"},{"c":2,"new":"two"},{"c":3}]}`,
			func(d *doc) { d.List = []part{{0}, d.List[1], d.List[0]} }, `{"a":1,"list":[{"c":0},{"c":2,"new":"two"},{"c":1,"new":"one"}]}`,
		},
		{"integers of 64 bits", `{"a":1,"big":18446744073709551615,"more":18446744073709551614}`, func(d *doc) { d.A = 2 }, `{"a":2,"big":18446744073709551615,"more":18446744073709551614}`},
		{"keys of maps are all known", `{"a":1,"map":{"x":1,"y":2},"more":0}`, func(d *doc) { delete(d.Map, "x"); d.Map["z"] = 3 }, `{"a":1,"map":{"y":2,"z":3},"more":0}`},
		{"text after the document is no field", `{"a":1}  `, func(d *doc) { d.A = 2 }, `{"a":2}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := written(t, tt.text, tt.edit); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, text := range []string{``, `{`, `[]`, `{"a":"x"}`, `{"a":1} {}`, `{"a":1}x`, `{"a":"x","more":1}`} {
		if _, _, err := later.Decode([]byte(text), func() *doc { return &doc{} }); err == nil {
			t.Errorf("%s is read", text)
		}
	}
	if _, err := (later.Rest{All: "{", Known: "{}"}).Add([]byte("{}")); err == nil {
		t.Error("a rest that is no JSON is added")
	}
}

// values draws what JSON can say.
func values() *rapid.Generator[any] {
	return rapid.Deferred(func() *rapid.Generator[any] {
		scalar := rapid.OneOf(rapid.Just[any](nil), rapid.Map(rapid.IntRange(0, 2), func(i int) any { return float64(i) }), rapid.Just[any]("x"))
		return rapid.OneOf(scalar, scalar, rapid.Map(rapid.SliceOfN(values(), 0, 2), func(v []any) any { return v }),
			rapid.Map(objects(), func(v map[string]any) any { return v }))
	})
}

func objects() *rapid.Generator[map[string]any] {
	return rapid.Deferred(func() *rapid.Generator[map[string]any] {
		return rapid.MapOfN(rapid.SampledFrom([]string{"p", "q", "r"}), values(), 0, 3)
	})
}

// TestLaws: with nothing changed everything stays; the document's unknown fields stay in any case; what this version wrote is there as it wrote it, whatever
// stands beside it; and a second writing of the same changes nothing.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		known, now, unknown := objects().Draw(t, "known"), objects().Draw(t, "now"), values().Draw(t, "unknown")
		all := map[string]any{"unknown": unknown}
		maps.Copy(all, known)
		text := func(v any) string {
			body, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return string(body)
		}
		rest := later.Rest{All: text(all), Known: text(known)}
		add := func(r later.Rest, v any) string {
			body, err := r.Add([]byte(text(v)))
			if err != nil {
				t.Fatal(err)
			}
			return string(body)
		}
		if got := add(rest, known); got != rest.All {
			t.Errorf("nothing changed: %s became %s", rest.All, got)
		}
		got := add(rest, now)
		var back map[string]any
		if err := json.Unmarshal([]byte(got), &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(unknown, back["unknown"]); diff != "" {
			t.Errorf("the unknown field changed:\n%s", diff)
		}
		delete(back, "unknown")
		if diff := cmp.Diff(now, back); diff != "" {
			t.Errorf("what was written is not there (-written +there):\n%s", diff)
		}
		if again := add(later.Rest{All: got, Known: text(now)}, now); again != got {
			t.Errorf("written again: %s became %s", got, again)
		}
	})
}
