package signature_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/journal"
	"github.com/pointsman/pointsman/shared/signature"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// private returns a key that is the same in every run.
func private(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func public(n byte) signature.Key { return signature.KeyOf(private(n)) }

func sign(tb testing.TB, n byte, body string) string {
	tb.Helper()
	out, err := signature.Sign(private(n), []byte(body))
	if err != nil {
		tb.Fatal(err)
	}
	return string(out)
}

// example returns a golden event of the codec on one line.
func example(tb testing.TB, kind string) string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("../event/testdata", kind+".json"))
	if err != nil {
		tb.Fatal(err)
	}
	var line bytes.Buffer
	if err = json.Compact(&line, text); err != nil {
		tb.Fatal(err)
	}
	return line.String()
}

// TestGolden: the signature of an event is what others, and older versions, made of it. docs/event-schema.md shows the file.
func TestGolden(t *testing.T) {
	const file = "testdata/alive.json"
	signed := sign(t, 1, example(t, "alive"))
	if *update {
		pretty, err := json.MarshalIndent(json.RawMessage(signed), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err = os.WriteFile(file, append(pretty, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	if err = json.Compact(&line, want); err != nil {
		t.Fatal(err)
	}
	if line.String() != signed {
		t.Errorf("signed as\n%s\nwant\n%s", signed, line.String())
	}
	content, by, err := signature.Open(want, []signature.Key{public(2), public(1)})
	if err != nil || by != public(1) {
		t.Fatalf("opened by %s: %v", by, err)
	}
	const canonical = `{"data":{"beat":8,"boot":"6f1d7b9e-6f0a-4a37-9d5c-0d9d3c1a7e55","digest":"0123456789abcdef","domain":"hub","epoch":1780000000000,"nva":"nva-a","seq":42},` +
		`"datacontenttype":"application/json","id":"hub/nva-a/1780000000000/42","source":"/pointsman/hub/nva-a","specversion":"1.0","subject":"nva-a",` +
		`"time":"2026-05-28T20:26:40Z","type":"dev.pointsman.route.alive.v1"}`
	if string(content) != canonical {
		t.Errorf("signed is\n%s\nwant\n%s", content, canonical)
	}
	if doc, failed := os.ReadFile("../../docs/event-schema.md"); failed != nil || !strings.Contains(string(doc), "```json\n"+string(want)+"```\n") ||
		!strings.Contains(string(doc), "```\npointsman event signature 1\n"+canonical+"\n```\n") || !strings.Contains(string(doc), "`"+public(1).String()+"`") {
		t.Errorf("docs/event-schema.md does not show %s, what is signed and the key %s (%v)", file, public(1), failed)
	}
}

func TestSchemas(t *testing.T) {
	_, value, _ := strings.Cut(sign(t, 1, example(t, "alive")), `"`+signature.Attribute+`":"`)
	for what, tt := range map[string]struct{ file, value string }{
		signature.Attribute: {"event.schema.json", strings.TrimSuffix(value, `"}`)},
		"key":               {"domain.schema.json", public(1).String()},
	} {
		text, err := os.ReadFile("../../docs/schema/" + tt.file)
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(text), `"`+what+`": {`)
		quoted := regexp.MustCompile(`"pattern": ("[^"]*")`).FindStringSubmatch(after)
		var pattern string
		if err = json.Unmarshal([]byte(quoted[1]), &pattern); err != nil {
			t.Fatal(err)
		}
		if re := regexp.MustCompile(pattern); !re.MatchString(tt.value) || re.MatchString(tt.value+"x") || re.MatchString("x"+tt.value) {
			t.Errorf("%s: %s does not fit %s of %s", what, tt.value, pattern, tt.file)
		}
	}
}

func TestCanonicalForm(t *testing.T) {
	for body, want := range map[string]string{
		` { "b" : 1 , "a" : [ true , false , null ] } `:               `{"a":[true,false,null],"b":1}`,
		`{"n":18446744073709551615,"m":-7,"z":-0}`:                    `{"m":-7,"n":18446744073709551615,"z":-0}`,
		`{"n":[1.0,1e2,0.5e0,1E-7,100000000000000000000000.0,-0.0]}`:  `{"n":[1,100,0.5,1e-7,1e+23,-0]}`,
		`{"s":"\u0041\/\u20ac\u001f\n\"\\<&> \u2028"}`:                "{\"s\":\"A/€\\u001f\\n\\\"\\\\<&> \u2028\"}",
		`{"s":"\ud83d\ude00\b\t\f\r"}`:                                `{"s":"😀\b\t\f\r"}`,
		`{"é":1,"z":2,"😀":3,"ﬀ":4,"":5}`:                              `{"":5,"z":2,"é":1,"ﬀ":4,"😀":3}`,
		`{"o":{"y":{},"x":[]},"enqueuedtime":"2026-05-28T20:26:40Z"}`: `{"o":{"x":[],"y":{}}}`,
	} {
		content, _, err := signature.Open([]byte(sign(t, 1, body)), []signature.Key{public(1)})
		if err != nil || string(content) != want {
			t.Errorf("%s:\n got %s (%v)\nwant %s", body, content, err, want)
		}
	}
}

// rewritten returns the same value in another form, as jq, a Functions host or a journal may write it.
func rewritten(t *testing.T, body string) map[string]string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	indented, err := json.MarshalIndent(v, " ", "\t")
	if err != nil {
		t.Fatal(err)
	}
	line, err := journal.Line([]byte(body), time.Unix(1780000000, 5))
	if err != nil {
		t.Fatal(err)
	}
	twice, err := journal.Line(line, time.Unix(1780000001, 0))
	if err != nil {
		t.Fatal(err)
	}
	var escaped strings.Builder
	for _, r := range body {
		if r > '~' {
			fmt.Fprintf(&escaped, `\u%04x`, r)
			continue
		}
		escaped.WriteRune(r)
	}
	return map[string]string{"as it is": body, "sorted and indented": string(indented), "a line of a journal": string(line), "a line of a journal again": string(twice), "in ASCII": escaped.String()}
}

func TestSurvivesBeingWrittenAnew(t *testing.T) {
	for _, k := range event.Kinds() {
		body := strings.Replace(example(t, k.String()), `"data":{`, `"data":{"new":{"deep":[1.50,"<ü>"]},`, 1)
		for form, text := range rewritten(t, sign(t, 1, body)) {
			content, _, err := signature.Open([]byte(text), []signature.Key{public(1)})
			if err != nil {
				t.Errorf("%s, %s: %v", k, form, err)
				continue
			}
			if want, _, _ := signature.Open([]byte(sign(t, 1, body)), []signature.Key{public(1)}); string(content) != string(want) {
				t.Errorf("%s, %s: reads as %s", k, form, content)
			}
		}
	}
}

// TestEveryChangeIsNoticed: whatever happens to the bytes of a signed event, what is read is what was signed, or nothing.
func TestEveryChangeIsNoticed(t *testing.T) {
	signed := sign(t, 1, strings.Replace(example(t, "delta"), `"data":{`, `"data":{"unknownYet":[true],`, 1))
	want, _, err := signature.Open([]byte(signed), []signature.Key{public(1)})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		body := []byte(signed)
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			at, end := rapid.IntRange(0, len(body)-1).Draw(t, "at"), 0
			switch rapid.IntRange(0, 3).Draw(t, "change") {
			case 0:
				body[at] = rapid.Byte().Draw(t, "byte")
			case 1:
				end = min(len(body), at+rapid.IntRange(1, 60).Draw(t, "length"))
				body = slices.Delete(body, at, end)
			case 2: // a piece stands twice
				end = min(len(body), at+rapid.IntRange(1, 60).Draw(t, "length"))
				body = slices.Insert(body, at, slices.Clone(body[at:end])...)
			case 3:
				body = slices.Insert(body, at, []byte(rapid.SampledFrom([]string{",", `"new":1,`, " ", `"seq":1,`, "0", `\u0061`}).Draw(t, "text"))...)
			}
			if len(body) == 0 {
				return
			}
		}
		got, _, refused := signature.Open(body, []signature.Key{public(1)})
		if refused == nil && string(got) != string(want) {
			t.Fatalf("accepted:\n%s\nsigned was:\n%s", got, want)
		}
		if refused != nil && !fault.Is(refused, fault.Poison) {
			t.Fatalf("%s: %v", fault.KindOf(refused), refused)
		}
	})
}

// TestForgeries: each is refused, with a reason that says what to do and names no key but by its ID.
func TestForgeries(t *testing.T) {
	body := example(t, "delta")
	signed := sign(t, 1, body)
	value := signed[strings.LastIndex(signed, `"ed25519:`)+1 : len(signed)-2]
	proof := strings.Split(value, ":")[2]
	for name, tt := range map[string]struct{ body, want string }{
		"not signed":                 {body, "is not signed"},
		"an empty signature":         {strings.Replace(signed, value, "", 1), "is not signed"},
		"another key":                {sign(t, 3, body), "signed with key " + public(3).ID() + ", the domain file has " + public(1).ID() + " and " + public(2).ID()},
		"another key under our name": {strings.Replace(sign(t, 3, body), public(3).ID(), public(1).ID(), 1), "does not fit its signature with key " + public(1).ID()},
		"the name of the other key":  {strings.Replace(signed, public(1).ID(), public(2).ID(), 1), "does not fit its signature"},
		"a kind of tomorrow":         {strings.Replace(signed, `"ed25519:`, `"ed448:`, 1), "upgrade the function app"},
		"a number":                   {strings.Replace(signed, `"`+value+`"`, "7", 1), "of a kind that this version does not know"},
		"without a name":             {strings.Replace(signed, public(1).ID()+":", "", 1), "damaged signature"},
		"a name that is none":        {strings.Replace(signed, public(1).ID(), "<script>alert(1)", 1), "damaged signature"},
		"cut off":                    {strings.Replace(signed, proof, proof[:40], 1), "damaged signature"},
		"another type":               {strings.Replace(signed, "delta.v1", "draining.v1", 1), "does not fit"},
		"another NVA":                {strings.Replace(signed, `"nva":"nva-a"`, `"nva":"nva-b"`, 1), "does not fit"},
		"another time":               {strings.Replace(signed, `"time":"2026`, `"time":"2027`, 1), "does not fit"},
		"a field more":               {strings.Replace(signed, `"data":{`, `"data":{"x":1,`, 1), "does not fit"},
		"an attribute more":          {strings.Replace(signed, `{"`, `{"x":1,"`, 1), "does not fit"},
		"a field less":               {strings.Replace(signed, `"beat":7,`, ``, 1), "does not fit"},
		"a field twice":              {strings.Replace(signed, `"data":{`, `"data":{"announce":[{"metric":7,"prefixes":[]}],`, 1), `the name "announce" stands twice`},
		"the data twice":             {strings.Replace(signed, `"data":{`, `"data":{"reason":"x"},"data":{`, 1), `the name "data" stands twice`},
		"the signature twice":        {strings.Replace(signed, `{"`, `{"`+signature.Attribute+`":"","`, 1), "stands twice"},
		"in other letters":           {strings.Replace(signed, `"type":`, `"Type":"dev.pointsman.route.alive.v1","type":`, 1), "does not fit"},
		"a huge number":              {strings.Replace(signed, `"beat":7`, `"beat":1e999`, 1), "no 64-bit value"},
		"too deep":                   {strings.Replace(signed, `"beat":7`, `"beat":`+strings.Repeat("[", 99)+strings.Repeat("]", 99), 1), "nested deeper"},
		"a list":                     {"[" + signed + "]", "no JSON object"},
		"two events":                 {signed + signed, "not valid JSON"},
		"nothing":                    {"", "not valid JSON"},
	} {
		if tt.body == signed {
			t.Fatalf("%s: nothing was changed", name)
		}
		_, _, err := signature.Open([]byte(tt.body), []signature.Key{public(1), public(2)})
		if !fault.Is(err, fault.Poison) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want Poison with %q", name, err, tt.want)
			continue
		}
		for _, secret := range []string{proof, public(1).String(), base64.StdEncoding.EncodeToString(private(1).Seed())} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the message holds a key or a signature: %v", name, err)
			}
		}
	}
}

// TestRotation: of two keys either will do.
func TestRotation(t *testing.T) {
	body := example(t, "witness")
	for _, n := range []byte{1, 2} {
		if _, by, err := signature.Open([]byte(sign(t, n, body)), []signature.Key{public(1), public(2)}); err != nil || by != public(n) {
			t.Errorf("key %d: by %s, %v", n, by.ID(), err)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	for body, want := range map[string]string{"": "not valid JSON", "[]": "no JSON object", "{}": "empty", `{"a":1,"a":2}`: "stands twice", sign(t, 1, `{"a":1}`): "signed already"} {
		if _, err := signature.Sign(private(1), []byte(body)); !fault.Is(err, fault.Bug) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want Bug with %q", body, err, want)
		}
	}
}

// TestOldReaders: a function app that knows nothing of signatures reads a signed event as before.
func TestOldReaders(t *testing.T) {
	for _, k := range event.Kinds() {
		body := example(t, k.String())
		plain, err := event.Decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := event.Decode([]byte(sign(t, 1, body)))
		if err != nil || fmt.Sprint(plain) != fmt.Sprint(signed) {
			t.Errorf("%s reads as %v (%v), want %v", k, signed, err, plain)
		}
	}
}

func TestKeys(t *testing.T) {
	good := public(1).String()
	if k, err := signature.ParseKey(good); err != nil || k != public(1) || len(k.ID()) != 16 {
		t.Errorf("%s reads as %s (%v), id %s", good, k, err, k.ID())
	}
	encode := func(raw []byte) string { return "ed25519:" + base64.StdEncoding.EncodeToString(raw) }
	for text, want := range map[string]string{
		"":                             "something else",
		strings.TrimPrefix(good, "ed"): "something else",
		"ed25519:":                     "0 bytes",
		"ed25519:?":                    "not base64",
		good + "=":                     "not base64",
		strings.TrimSuffix(good, "="):  "not base64",
		encode(private(1)):             "64 bytes", // a private key
		encode(make([]byte, 32)):       "everybody can sign",
	} {
		if _, err := signature.ParseKey(text); err == nil || !strings.Contains(err.Error(), want) || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v, want %q and the text not repeated", text, err, want)
		}
	}
}

// TestWeakKeys shows why they are refused: R = the identity, S = 0 is a signature of some message out of a few, by nobody.
func TestWeakKeys(t *testing.T) {
	forged := make([]byte, ed25519.SignatureSize)
	forged[0] = 1
	forgeable := func(k []byte) bool {
		for n := range 200 {
			if ed25519.Verify(k, fmt.Append(nil, "message ", n), forged) {
				return true
			}
		}
		return false
	}
	for _, text := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000080",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = signature.ParseKey("ed25519:" + base64.StdEncoding.EncodeToString(raw))
		if err == nil || !forgeable(raw) {
			t.Errorf("%s: accepted %t, forgeable %t", text, err == nil, forgeable(raw))
		}
	}
	if key := public(1); forgeable(key[:]) {
		t.Error("the forgery works for every key: it shows nothing")
	}
}

// FuzzOpen: nothing panics, and what is accepted is in canonical form: signed again it reads the same.
func FuzzOpen(f *testing.F) {
	for _, k := range event.Kinds() {
		f.Add([]byte(example(f, k.String())), true)
		f.Add([]byte(sign(f, 1, example(f, k.String()))), false)
	}
	f.Add([]byte(`{"a":{"a":1,"a":2}}`), true)
	f.Add([]byte(`{"a":"\ud800","b":1e400,"c":-0.0}`), true)
	f.Fuzz(func(t *testing.T, body []byte, signIt bool) {
		if signIt {
			signed, err := signature.Sign(private(1), body)
			if err != nil {
				return
			}
			body = signed
		}
		content, _, err := signature.Open(body, []signature.Key{public(1)})
		if err != nil {
			if signIt {
				t.Fatalf("signed, and refused: %v\n%s", err, body)
			}
			if !fault.Is(err, fault.Poison) {
				t.Fatalf("%s: %v", fault.KindOf(err), err)
			}
			return
		}
		if string(content) == "{}" {
			return
		}
		again, err := signature.Sign(private(1), content)
		if err != nil {
			t.Fatalf("canonical, but not to be signed: %v\n%s", err, content)
		}
		twice, _, err := signature.Open(again, []signature.Key{public(1)})
		if err != nil || string(twice) != string(content) {
			t.Fatalf("not stable (%v):\n%s\n%s", err, content, twice)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	var prefixes []string
	for i := range 3000 {
		prefixes = append(prefixes, fmt.Sprintf(`"10.%d.%d.0/24"`, i>>8, i&255))
	}
	body := []byte(sign(b, 1, strings.Replace(example(b, "delta"), `"10.3.0.0/16"`, strings.Join(prefixes, ","), 1)))
	for b.Loop() {
		if _, _, err := signature.Open(body, []signature.Key{public(1)}); err != nil {
			b.Fatal(err)
		}
	}
}
