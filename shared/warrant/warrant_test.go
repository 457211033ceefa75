package warrant_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/signature"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/warrant"
	"github.com/pointsman/pointsman/test/jsonschema"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func private(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func public(n byte) string { return signature.KeyOf(private(n)).String() }

func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// domain has nva-a with key 9. With operators: jo (keys 1 and 2) may do everything, night-shift (key 3) may drain and resume nva-a, desk (key 4) may do what it likes to spokes.
func domain(tb testing.TB, keys, operators bool) *config.Domain {
	tb.Helper()
	text := "domain: hub\npolicy: {silence: hold}\nnvas:\n  - {name: nva-a, nextHops: [10.0.0.4], allow: [10.0.0.0/8]"
	if keys {
		text += `, keys: ["` + public(9) + `"]`
	}
	text += `}
  - {name: nva-b, nextHops: [10.0.0.5], allow: [10.0.0.0/8]}
targets:
  - {name: spokes, routeTable: /subscriptions/s/resourceGroups/r/providers/Microsoft.Network/routeTables/spokes}
  - {name: gateway, routeTable: /subscriptions/s/resourceGroups/r/providers/Microsoft.Network/routeTables/gateway}
`
	if operators {
		text += `operators:
  - {name: jo, keys: ["` + public(1) + `", "` + public(2) + `"]}
  - {name: night-shift, keys: ["` + public(3) + `"], orders: [drain, resume], nvas: [nva-a]}
  - {name: desk, keys: ["` + public(4) + `"], targets: [spokes]}
`
	}
	d, problems := config.Parse("hub.yaml", []byte(text))
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	return d
}

func given(kind order.Kind, of string) order.Order {
	o := order.Order{Kind: kind, Domain: "hub", ID: "0b8f3c52-6f0a-4a37-9d5c-0d9d3c1a7e55", Who: "jo@example.com", Time: noon()}
	if kind.OfNVA() {
		o.NVA = of
	} else {
		o.Target = of
	}
	if kind.OfPlan() {
		o.Plan = "25bfe4c57b9769ed"
	}
	return o
}

func encoded(tb testing.TB, o order.Order) []byte {
	tb.Helper()
	body, err := order.Encode(o)
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

func signed(tb testing.TB, n byte, body []byte) []byte {
	tb.Helper()
	out, err := signature.SignOrder(private(n), body)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// TestWarrant is the table of docs/configuration.md, Operators.
func TestWarrant(t *testing.T) {
	plain := encoded(t, given(order.Drain, "nva-a"))
	for _, tt := range []struct {
		keys, operators bool
		warrant         config.Warrant
		unsigned        string // "": it counts
		signed          string
		who             string
	}{
		{false, false, config.WarrantNone, "", "", "jo@example.com"},
		{true, false, config.WarrantNever, "does not say who may give orders", "does not say who may give orders", ""},
		{false, true, config.WarrantSigned, "the order is not signed", "", "jo (jo@example.com)"},
		{true, true, config.WarrantSigned, "the order is not signed", "", "jo (jo@example.com)"},
	} {
		d := domain(t, tt.keys, tt.operators)
		if d.Warrant() != tt.warrant || (d.WarrantAdvice() == "") != (tt.warrant == config.WarrantSigned) {
			t.Errorf("keys %t, operators %t: %s, %q", tt.keys, tt.operators, d.Warrant(), d.WarrantAdvice())
		}
		for body, want := range map[string]string{string(plain): tt.unsigned, string(signed(t, 1, plain)): tt.signed} {
			o, err := warrant.Check([]byte(body), d, noon())
			switch {
			case want == "" && (err != nil || o.Who != tt.who || (o.Operator != "") != tt.operators || o.Signed().IsZero() == tt.operators):
				t.Errorf("keys %t, operators %t: %+v, %v", tt.keys, tt.operators, o, err)
			case want != "" && (!fault.Is(err, fault.Poison) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "order hub/operator/0b8f3c52-")):
				t.Errorf("keys %t, operators %t: %v, want %q", tt.keys, tt.operators, err, want)
			}
		}
	}
}

// TestGolden: what is signed, and how, is what others made of it. docs/operator-events.md shows the file.
func TestGolden(t *testing.T) {
	const file = "testdata/drain.json"
	text, err := os.ReadFile("../order/testdata/drain.json")
	if err != nil {
		t.Fatal(err)
	}
	var line, pretty bytes.Buffer
	if err = json.Compact(&line, text); err != nil {
		t.Fatal(err)
	}
	if err = json.Indent(&pretty, signed(t, 1, line.Bytes()), "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	if *update {
		if err = os.WriteFile(file, pretty.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(want, pretty.Bytes()) {
		t.Errorf("signed as\n%s\nwant\n%s (%v)", pretty.String(), want, err)
	}
	o, err := warrant.Check(want, domain(t, true, true), time.Date(2026, 5, 28, 20, 27, 0, 0, time.UTC))
	if err != nil || o.Operator != "jo" || o.NVA != "nva-a" {
		t.Errorf("%+v, %v", o, err)
	}
	if err = jsonschema.Read(t, "../../docs/schema/operator.schema.json").Validate("order", jsonschema.Object(t, want)); err != nil {
		t.Error(err)
	}
	doc, err := os.ReadFile("../../docs/operator-events.md")
	if err != nil || !strings.Contains(string(doc), "```json\n"+string(want)+"```\n") || !strings.Contains(string(doc), "`"+public(1)+"`") {
		t.Errorf("docs/operator-events.md does not show %s and the key (%v)", file, err)
	}
}

// TestForgedOrders: each is refused with its reason.
func TestForgedOrders(t *testing.T) {
	drain := encoded(t, given(order.Drain, "nva-a"))
	ok := signed(t, 1, drain)
	change := func(body []byte, old, with string) []byte {
		out := bytes.Replace(body, []byte(old), []byte(with), 1)
		if bytes.Equal(out, body) {
			t.Fatalf("%s is not in %s", old, body)
		}
		return out
	}
	asEvent, err := signature.Sign(private(1), drain)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		body []byte
		want string
	}{
		"unsigned":               {drain, "the order is not signed, and the domain file has operators"},
		"the agent's key":        {signed(t, 9, drain), "signed with key"},
		"a stranger's key":       {signed(t, 8, drain), "if that is the key of an operator"},
		"signed as an event":     {asEvent, "does not fit its signature"},
		"another NVA":            {change(ok, `"nva":"nva-a"`, `"nva":"nva-b"`), "does not fit its signature"},
		"another kind":           {change(ok, "drain.v1", "resume.v1"), "does not fit its signature"},
		"another time":           {change(ok, `"time":"2026`, `"time":"2027`), "does not fit its signature"},
		"another id":             {change(ok, `"id":"0b8f3c52`, `"id":"1b8f3c52`), "does not fit its signature"},
		"somebody else's name":   {change(ok, "jo@example.com", "kim@example.com"), "does not fit its signature"},
		"a name twice":           {change(ok, `"data":{`, `"data":{"nva":"nva-b",`), "stands twice"},
		"read in another order":  {signed(t, 1, change(drain, `"nva":"nva-a"`, `"nVa":"nva-b","Nva":"nva-a"`)), "what is signed is about nva-b"},
		"another domain's order": {signed(t, 1, change(drain, `"domain":"hub"`, `"domain":"edge"`)), "what is signed is about nva-a of domain edge"},
		"without a time":         {signed(t, 1, change(drain, `"time":"2026-11-23T12:00:00Z",`, ``)), "does not say when it was signed"},
		"no order":               {signed(t, 1, []byte(`{"a":1}`)), "specversion"},
	} {
		if _, err = warrant.Check(tt.body, domain(t, true, true), noon()); !fault.Is(err, fault.Poison) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestWhoMayOrderWhat: orders, nvas and targets of an operator bound what that one may do.
func TestWhoMayOrderWhat(t *testing.T) {
	for key, may := range map[byte]func(order.Order) bool{
		1: func(order.Order) bool { return true },
		2: func(order.Order) bool { return true },
		3: func(o order.Order) bool { return o.Kind.OfNVA() && o.NVA == "nva-a" },
		4: func(o order.Order) bool { return o.Kind.OfNVA() || o.Target == "spokes" },
	} {
		for _, k := range order.Kinds() {
			for _, of := range []string{"nva-a", "nva-b", "spokes", "gateway"} {
				if k.OfNVA() != strings.HasPrefix(of, "nva") {
					continue
				}
				o := given(k, of)
				_, err := warrant.Check(signed(t, key, encoded(t, o)), domain(t, true, true), noon())
				if may(o) != (err == nil) || err != nil && !strings.Contains(err.Error(), "may not "+k.String()+" "+of) {
					t.Errorf("key %d: %s %s: %v", key, k, of, err)
				}
			}
		}
	}
}

// TestTimely: an order is good for five minutes, by the broker's clock; and a minute before its time, for clocks that are fast.
func TestTimely(t *testing.T) {
	body := signed(t, 2, encoded(t, given(order.Approve, "spokes")))
	for _, tt := range []struct {
		accepted time.Duration // after it was signed
		want     string
	}{
		{-time.Minute - time.Millisecond, "signed 1m0s after the bus accepted it"},
		{-2 * time.Hour, "signed 2h0m0s after the bus accepted it at 2026-11-23T10:00:00Z: want at most 1m0s: if you gave it, set the clock"},
		{-time.Minute, ""},
		{0, ""},
		{5 * time.Minute, ""},
		{5*time.Minute + time.Millisecond, "signed 5m0s before"},
		{24 * time.Hour, "signed 24h0m0s before the bus accepted it at 2026-11-24T12:00:00Z: want at most 5m0s"},
	} {
		_, err := warrant.Check(body, domain(t, false, true), noon().Add(tt.accepted))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.accepted, err, tt.want)
		}
	}
}

// TestNoOrderHasAnEffectTwice: operators give orders one after the other, with clocks that are right; somebody who has seen them sends any of them again, at any time
// and any number of times. What holds is as if nobody had.
func TestNoOrderHasAnEffectTwice(t *testing.T) {
	d := domain(t, true, true)
	rapid.Check(t, func(t *rapid.T) {
		alone, disturbed := newWorld(), newWorld()
		var bodies [][]byte
		now := noon()
		for i := range rapid.IntRange(1, 12).Draw(t, "orders") {
			now = now.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "pause")) * time.Second)
			k := rapid.SampledFrom(order.Kinds()).Draw(t, "kind")
			o := given(k, map[bool]string{true: "nva-a", false: "spokes"}[k.OfNVA()])
			o.ID, o.Time = fmt.Sprintf("00000000-0000-4000-8000-%012d", rapid.IntRange(0, 9).Draw(t, "id")*100+i), now
			body := signed(discard{}, byte(rapid.IntRange(1, 2).Draw(t, "key")), encoded(discard{}, o))
			bodies = append(bodies, body)
			alone.take(d, body, now)
			disturbed.take(d, body, now)
			alone.spend(now)
			disturbed.spend(now)
			for range rapid.IntRange(0, 3).Draw(t, "replays") {
				disturbed.take(d, rapid.SampledFrom(bodies).Draw(t, "replay"), now.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "later"))*time.Second))
			}
			if a, b := alone.String(), disturbed.String(); a != b {
				t.Fatalf("without replays\n%s\nwith\n%s", a, b)
			}
		}
	})
}

// discard takes the place of a test where nothing can go wrong.
type discard struct{ testing.TB }

func (discard) Helper() {}

func (discard) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

type world struct {
	nva    *state.NVA
	target *state.Target
}

func newWorld() world {
	return world{state.NewNVA("hub", "nva-a"), state.NewTarget("hub", "spokes", "/t")}
}

func (w world) take(d *config.Domain, body []byte, at time.Time) {
	o, err := warrant.Check(body, d, at)
	if err != nil {
		return
	}
	if o.Kind.OfNVA() {
		w.nva.Obey(state.OrderOf(o, at))
	} else {
		w.target.Obey(o, at)
	}
}

// spend ends an approval, as its write does.
func (w world) spend(now time.Time) {
	if a := &w.target.Approval; a.Open() {
		a.Ended, a.End = now, state.ApprovalWritten
	}
}

func (w world) String() string {
	return fmt.Sprintf("%+v\n%+v\n%+v", w.nva.Order, w.target.Pause, w.target.Approval)
}

// FuzzCheck: nothing panics, every refusal is Poison, and what counts was signed: it is one of the orders that the operators of this test have signed.
func FuzzCheck(f *testing.F) {
	d := domain(f, true, true)
	known := map[string]bool{}
	for i, k := range order.Kinds() {
		o := given(k, map[bool]string{true: "nva-a", false: "spokes"}[k.OfNVA()])
		body := signed(f, byte(1+i%2), encoded(f, o))
		o.Operator, o.Who = "jo", "jo (jo@example.com)"
		known[fmt.Sprintf("%+v", o)] = true
		f.Add(body)
		f.Add(encoded(f, o))
		f.Add(bytes.Replace(body, []byte("nva-a"), []byte("nva-b"), 1))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := warrant.Check(body, d, noon())
		switch {
		case err != nil && !fault.Is(err, fault.Poison):
			t.Fatalf("%v is not poison", err)
		case err == nil && !known[fmt.Sprintf("%+v", o)]:
			t.Fatalf("nobody gave %+v", o)
		}
	})
}
