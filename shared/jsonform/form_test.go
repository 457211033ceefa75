package jsonform_test

import (
	"encoding/json"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/jsonform"
)

// word has a text, and refuses some.
type word string

// MarshalText implements encoding.TextMarshaler.
func (w word) MarshalText() ([]byte, error) { return []byte("<" + w + ">"), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (w *word) UnmarshalText(text []byte) error {
	inner, opened := strings.CutPrefix(string(text), "<")
	inner, closed := strings.CutSuffix(inner, ">")
	if !opened || !closed {
		return errWord
	}
	*w = word(inner)
	return nil
}

var errWord = &json.SyntaxError{}

type inner struct {
	Metric uint32 `json:"metric,omitempty"`
	Origin string `json:"origin,omitempty"`
}

// everything has whatever a form may have.
type everything struct {
	inner // not exported, its fields are

	Plain    string
	Renamed  string               `json:"re<named"`
	Empty    string               `json:"empty,omitempty"`
	Yes      bool                 `json:"yes"`
	No       bool                 `json:"no,omitempty"`
	Int      int                  `json:"int"`
	Small    int8                 `json:"small"`
	Big      uint64               `json:"big"`
	Byte     uint8                `json:"byte,omitempty"`
	Float    float64              `json:"float"`
	Hidden   int                  `json:"-"`
	Time     time.Time            `json:"time"`
	Never    time.Time            `json:"never,omitzero"`
	Prefix   netip.Prefix         `json:"prefix"`
	Addr     netip.Addr           `json:"addr"`
	Word     word                 `json:"word"`
	Names    []string             `json:"names"`
	Prefixes []netip.Prefix       `json:"prefixes,omitempty"`
	Pair     [2]uint64            `json:"pair"`
	Pairs    [][2]uint64          `json:"pairs,omitempty"`
	Groups   []inner              `json:"groups"`
	Pointer  *inner               `json:"pointer,omitempty"`
	Number   *int                 `json:"number"`
	Counts   map[string]uint64    `json:"counts"`
	Times    map[string]time.Time `json:"times,omitempty"`
	Group    inner                `json:"group,omitzero"`
}

func some() *rapid.Generator[everything] {
	return rapid.Custom(func(t *rapid.T) everything {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }), rapid.Just("<&>\u2028\u2029\x00\x7f\"\\\n"))
		instant := rapid.Map(rapid.Int64Range(-1<<33, 1<<33), func(s int64) time.Time { return time.Unix(s, s%1e9).UTC() })
		group := rapid.Custom(func(t *rapid.T) inner { return inner{rapid.Uint32().Draw(t, "metric"), text.Draw(t, "origin")} })
		prefix := rapid.Map(rapid.Uint32(), func(n uint32) netip.Prefix {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), int(n%33))
		})
		e := everything{
			inner: group.Draw(t, "embedded"), Plain: text.Draw(t, "plain"), Renamed: text.Draw(t, "renamed"), Empty: text.Draw(t, "empty"), Yes: rapid.Bool().Draw(t, "yes"),
			No: rapid.Bool().Draw(t, "no"), Int: rapid.Int().Draw(t, "int"), Small: rapid.Int8().Draw(t, "small"), Big: rapid.Uint64().Draw(t, "big"), Byte: rapid.Byte().Draw(t, "byte"),
			Float: rapid.Float64().Draw(t, "float"), Time: instant.Draw(t, "time"), Prefix: prefix.Draw(t, "prefix"), Addr: prefix.Draw(t, "addr").Addr(), Word: word(rapid.StringMatching(`[a-z"<é]*`).Draw(t, "word")),
			Pair: [2]uint64{rapid.Uint64().Draw(t, "first"), rapid.Uint64().Draw(t, "second")}, Names: rapid.SliceOf(text).Draw(t, "names"), Prefixes: rapid.SliceOf(prefix).Draw(t, "prefixes"),
			Groups: rapid.SliceOf(group).Draw(t, "groups"), Counts: rapid.MapOf(text, rapid.Uint64()).Draw(t, "counts"), Times: rapid.MapOf(text, instant).Draw(t, "times"),
		}
		if rapid.Bool().Draw(t, "more") {
			pointed := group.Draw(t, "pointer")
			e.Pointer, e.Number, e.Group, e.Never = &pointed, new(int), group.Draw(t, "group"), instant.Draw(t, "never")
			e.Pairs = [][2]uint64{e.Pair}
		} else {
			e.Names, e.Groups, e.Counts = nil, nil, nil
		}
		return e
	})
}

// Encode writes the bytes of json.Marshal, and Decode reads what json.Unmarshal reads.
func TestLikeEncodingJSON(t *testing.T) {
	form := jsonform.Of[everything]()
	rapid.Check(t, func(t *rapid.T) {
		e := some().Draw(t, "value")
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := form.Encode(&e)
		if err != nil || string(got) != string(want) {
			t.Fatalf("%v\n%s, want\n%s", err, got, want)
		}
		var theirs everything
		if err = json.Unmarshal(want, &theirs); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{string(want), indented(t, want)} {
			ours, failed := form.Decode([]byte(text))
			if failed != nil || !reflect.DeepEqual(ours, theirs) {
				t.Fatalf("%v\n%+v, want\n%+v", failed, ours, theirs)
			}
		}
	})
}

func indented(t *rapid.T, text []byte) string {
	out, err := json.MarshalIndent(json.RawMessage(text), "\t ", "\r\n ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Whatever is well formed or not: both think the same of it.
func TestWhatIsRefused(t *testing.T) {
	form := jsonform.Of[everything]()
	for _, text := range []string{
		``, ` `, `null`, `{}`, ` { } `, `[]`, `{`, `}`, `{"`, `{"yes"`, `{"yes":`, `{"yes":}`, `{"yes":true`, `{"yes":true,}`, `{,}`, `{"yes":true "no":true}`, `{"yes" true}`, `{yes:true}`, `{'yes':true}`,
		`{"yes":true}x`, `{"yes":true}{}`, `{"yes":tru}`, `{"yes":TRUE}`, `{"yes":1}`, `{"yes":null}`, `{"yes":nul}`, `{"yes":"true"}`, "{\"yes\":\u00a0true}",
		`{"int":0}`, `{"int":-0}`, `{"int":-1}`, `{"int":01}`, `{"int":+1}`, `{"int":1.0}`, `{"int":1e3}`, `{"int":-}`, `{"int":.5}`, `{"int":"1"}`, `{"int":9223372036854775807}`, `{"int":9223372036854775808}`, `{"int":0x1}`, `{"int":1_0}`,
		`{"small":127}`, `{"small":128}`, `{"small":-129}`, `{"big":18446744073709551615}`, `{"big":18446744073709551616}`, `{"big":-1}`, `{"byte":256}`, `{"metric":4294967295}`, `{"metric":4294967296}`,
		`{"float":1}`, `{"float":-1.5e-3}`, `{"float":1.}`, `{"float":1e}`, `{"float":1e+}`, `{"float":1E+5}`, `{"float":1e400}`, `{"float":NaN}`, `{"float":Infinity}`, `{"float":1e-400}`,
		`{"Plain":"a\u00e9\ud83d\ude00\/\b\f\n\r\t\"\\"}`, `{"Plain":"\ud83d"}`, `{"Plain":"\ud83dx"}`, `{"Plain":"\ude00\ud83d"}`, `{"Plain":"\ud83d\u0041"}`, `{"Plain":"\u00g0"}`, `{"Plain":"\u12"}`, `{"Plain":"\x"}`, `{"Plain":"\`, `{"Plain":"\u`, `{"Plain":"\u12`,
		"{\"Plain\":\"a\nb\"}", "{\"Plain\":\"a\tb\"}", "{\"Plain\":\"\x7f\"}", "{\"Plain\":\"\xff\xc0\x80\"}", "{\"Plain\":\"\xed\xa0\x80\"}", `{"Plain":"`, `{"Plain":5}`,
		`{"time":"2026-03-01T12:00:00Z"}`, `{"time":"2026-03-01T12:00:00.123456789+02:00"}`, `{"time":"2026-03-01"}`, `{"time":"2026-03-01T12:00:00,5Z"}`, `{"time":"2026-13-01T12:00:00Z"}`, `{"time":""}`, `{"time":5}`, `{"time":null}`,
		`{"prefix":"10.0.0.0/8"}`, `{"prefix":""}`, `{"prefix":"10.0.0.0"}`, `{"prefix":null}`, `{"prefix":7}`, `{"prefix":"10.0.0.0\/8"}`, `{"addr":"fe80::1%eth0"}`, `{"word":"<x>"}`, `{"word":"x"}`, `{"word":"<\u00e9>"}`,
		`{"names":null}`, `{"names":[]}`, `{"names":["a",null]}`, `{"names":["a",]}`, `{"names":[,]}`, `{"names":["a" "b"]}`, `{"names":["a"}`, `{"names":[`, `{"names":{}}`, `{"names":"a"}`, `{"prefixes":["10.0.0.0/8",null,""]}`, `{"prefixes":["x"]}`,
		`{"pair":[1,2]}`, `{"pair":[1]}`, `{"pair":[1,2,3]}`, `{"pair":[]}`, `{"pair":null}`, `{"pair":[1,2,{]}`, `{"pairs":[[1,2],[3]]}`,
		`{"groups":[{"metric":1},{},null]}`, `{"pointer":null}`, `{"pointer":{}}`, `{"pointer":{"metric":-1}}`, `{"number":null}`, `{"number":5}`, `{"counts":{"a":1,"b":2}}`, `{"counts":null}`, `{"counts":{}}`, `{"counts":{"a":-1}}`, `{"counts":[]}`, `{"times":{"\u0061":"2026-03-01T12:00:00Z"}}`,
		`{"unknown":{"a":[1,2,{"b":null}],"c":"\ud83d"}}`, `{"unknown":[1,2}`, `{"unknown":"\x"}`, `{"unknown":01}`, `{"unknown":}`, `{"unknown":tru}`, `{"re<named":"x"}`, `{"re\u003cnamed":"x"}`, `{"na\x":1}`, `{"Hidden":7,"-":7}`,
		strings.Repeat(`[`, 900) + strings.Repeat(`]`, 900), `{"unknown":` + strings.Repeat(`[`, 900) + strings.Repeat(`]`, 900) + `}`, `{"unknown":` + strings.Repeat(`{"a":`, 900) + `1` + strings.Repeat(`}`, 900) + `}`,
	} {
		var theirs everything
		their := json.Unmarshal([]byte(text), &theirs)
		ours, our := form.Decode([]byte(text))
		if (our == nil) != (their == nil) {
			t.Errorf("%.100s: %v, encoding/json: %v", text, our, their)
		}
		if d := cmp.Diff(theirs, ours, cmp.Exporter(func(reflect.Type) bool { return true })); our == nil && their == nil && d != "" {
			t.Errorf("%.100s (-encoding/json +ours):\n%s", text, d)
		}
	}
}

// Where the RFC leaves a choice this package does not follow encoding/json.
func TestOwnChoices(t *testing.T) {
	form := jsonform.Of[everything]()
	got, err := form.Decode([]byte(`{"YES":true,"names":["a","b"],"names":["c"],"group":{"metric":1,"origin":"x"},"group":{"metric":2},"int":1,"int":null}`))
	if want := (everything{Names: []string{"c"}, Group: inner{Metric: 2}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%+v, want\n%+v", err, got, want)
	}
	for _, open := range []string{`[`, `{"a":`, `{"unknown":[`} {
		if _, err = form.Decode([]byte(`{"unknown":` + strings.Repeat(open, 1_000_000))); err == nil || !strings.Contains(err.Error(), "nesting") {
			t.Errorf("a million of %s: %v", open, err)
		}
	}
}

// An error says where, in which member, what was found and what was wanted.
func TestErrors(t *testing.T) {
	form := jsonform.Of[everything]()
	for text, want := range map[string]string{
		`{"Plain":"x","int":"seven"}`:       `at byte 19: int: found "\"seven\"}", want a number`,
		`{"group":{"metric":4294967296}}`:   `at byte 19: metric: found "4294967296}}", want a whole number from 0 to 2^32-1`,
		`{"prefixes":["10.0.0.0/8","ten"]}`: `at byte 26: prefixes: netip.ParsePrefix("ten")`,
		`{"yes":true`:                       `at byte 11: found the end, want a comma or }`,
		`{"unknown":5} and more than that`:  `at byte 14: found "and more than that", want the end`,
		`{"word":"x"}`:                      `at byte 8: word: `,
	} {
		if _, err := form.Decode([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\n%v, want\n%s", text, err, want)
		}
	}
	for _, e := range []everything{{Float: math.NaN()}, {Float: math.Inf(1)}, {Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}} {
		if text, err := form.Encode(&e); err == nil {
			t.Errorf("written: %s", text)
		}
	}
}

func TestFloatsLikeEncodingJSON(t *testing.T) {
	type number struct{ F float64 }
	form := jsonform.Of[number]()
	for _, f := range []float64{0, 1, -1, 0.1, 1e-6, 9.99e-7, 1e-7, 1.5e-10, 1e20, 1e21, 1.5e300, math.MaxFloat64, math.SmallestNonzeroFloat64} {
		want, err := json.Marshal(number{f})
		if err != nil {
			t.Fatal(err)
		}
		if got, failed := form.Encode(&number{f}); failed != nil || string(got) != string(want) {
			t.Errorf("%g: %s, %v; want %s", f, got, failed, want)
		}
	}
}

type recursive struct{ Next *recursive }

// What it cannot handle shows when the program starts, not when somebody uses it.
func TestUnsuitableTypes(t *testing.T) {
	for name, of := range map[string]func(){
		"any":           func() { jsonform.Of[any]() },
		"bytes":         func() { jsonform.Of[[]byte]() },
		"map by number": func() { jsonform.Of[map[int]int]() },
		"float32":       func() { jsonform.Of[float32]() },
		"channel":       func() { jsonform.Of[struct{ C chan int }]() },
		"itself":        func() { jsonform.Of[recursive]() },
		"its own JSON":  func() { jsonform.Of[struct{ Raw json.RawMessage }]() },
		"another option": func() {
			jsonform.Of[struct {
				N int `json:"n,string"`
			}]()
		},
		"two of a name": func() {
			jsonform.Of[struct {
				A int
				B int `json:"A"`
			}]()
		},
		"a quote in a name": func() {
			jsonform.Of[struct {
				N int `json:"a'b"` //nolint:staticcheck // that is what is tested
			}]()
		},
		"embedded pointer": func() { jsonform.Of[struct{ *inner }]() },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("it was accepted")
				}
			}()
			of()
		})
	}
}

// FuzzDecode: what is accepted is JSON, is read by encoding/json too, and is written and read again without change.
func FuzzDecode(f *testing.F) {
	form := jsonform.Of[everything]()
	for _, e := range []everything{{}, {Plain: "\u00e9", Names: []string{"a"}, Pairs: [][2]uint64{{1, 2}}, Pointer: &inner{Metric: 1}, Counts: map[string]uint64{"x": 1}, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}} {
		body, err := form.Encode(&e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := form.Decode(text)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatalf("accepted, and not JSON: %q", text)
		}
		once, err := form.Encode(&e)
		if err != nil {
			t.Fatalf("read, and not to be written: %v", err)
		}
		var theirs everything
		if err = json.Unmarshal(once, &theirs); err != nil {
			t.Fatalf("encoding/json cannot read %s: %v", once, err)
		}
		again, err := form.Decode(once)
		if err != nil || !reflect.DeepEqual(again, theirs) {
			t.Fatalf("%v\n%+v\n%+v", err, again, theirs)
		}
	})
}
