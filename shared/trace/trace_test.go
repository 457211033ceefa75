package trace_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/trace"
)

const example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		example: example,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00":      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03":      example, // flags that are not known are not passed on
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what": example, // a later version
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":      example,
		"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what": "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what": "",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":      "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":      "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01":      "",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01":      "",
		"00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01":      "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01":      "",
		example[:54]: "",
		"":           "",
	} {
		c, ok := trace.Parse(text)
		if got := c.String(); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %t, want %q", text, got, ok, want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var random [trace.Random]byte
		copy(random[:], rapid.SliceOfN(rapid.Byte(), trace.Random, trace.Random).Draw(t, "random"))
		c := trace.New(random)
		if back, ok := trace.Parse(c.String()); ok != c.Valid() || ok && back != c {
			t.Fatalf("%+v came back as %+v, %t", c, back, ok)
		}
	})
}

func TestChildIsOfTheTrace(t *testing.T) {
	c, _ := trace.Parse(example)
	child := c.Child([8]byte{7})
	if child.ID() != "4bf92f3577b34da6a3ce929d0e0e4736" || child.Span == c.Span || child.String() != "00-4bf92f3577b34da6a3ce929d0e0e4736-0700000000000000-01" {
		t.Errorf("got %s", child)
	}
	if id := (trace.Context{}).ID(); id != "" {
		t.Errorf("what is no trace has the id %q", id)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what")
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := trace.Parse(text)
		if !ok && c != (trace.Context{}) {
			t.Fatalf("%q is none, and yet %+v", text, c)
		}
		if ok && text[3:52] != c.String()[3:52] {
			t.Fatalf("%q read as %s", text, c)
		}
	})
}
