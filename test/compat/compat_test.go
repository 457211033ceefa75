package compat_test

import (
	"slices"
	"testing"

	"github.com/pointsman/pointsman/test/compat"
)

func TestLost(t *testing.T) {
	const older = `{"a":1,"b":{"c":[1,{"d":"x"}]},"n":18446744073709551615}`
	for newer, want := range map[string][]string{
		older: nil,
		`{"n":18446744073709551615,"b":{"new":1,"c":[1,{"d":"x","e":2}]},"a":1,"z":[]}`: nil,
		`{"a":1,"b":{"c":[1]},"n":18446744073709551615}`:                                {".b.c has 1 elements, had 2"},
		`{"a":"1","b":{"c":[1,{"d":"y"}]},"n":18446744073709551614}`:                    {".a is 1, was 1", ".b.c[1].d is y, was x", ".n is 18446744073709551614, was 18446744073709551615"},
		`{"b":7}`: {".a is <nil>, was 1", ".b.c has 0 elements, had 2", ".n is <nil>, was 18446744073709551615"},
	} {
		if got, err := compat.Lost([]byte(older), []byte(newer)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q (%v), want %q", newer, got, err, want)
		}
	}
	if _, err := compat.Lost([]byte("{"), []byte("{}")); err == nil {
		t.Error("no error for what is no JSON")
	}
}
