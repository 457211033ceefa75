package state_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/test/compat"
)

// ofLater is a golden document as a version might write it that knows more: the object at each path has one more field.
func ofLater(t *testing.T, file string, paths ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err = d.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		at := doc
		for step := range strings.SplitSeq(strings.Trim(path, "."), ".") {
			switch v := at.(type) {
			case map[string]any:
				if step != "" {
					at = v[step]
				}
			case []any:
				at = v[0]
			}
		}
		object, ok := at.(map[string]any)
		if !ok {
			t.Fatalf("%s has no object at %s", file, path)
		}
		object["later"] = map[string]any{"said": path}
	}
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// keeps fails where newer does not say what older says, but for the paths that begin with one of except.
func keeps(t *testing.T, older, newer []byte, except ...string) {
	t.Helper()
	lost, err := compat.Lost(older, newer)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lost {
		ours := false
		for _, e := range except {
			ours = ours || strings.HasPrefix(l, e)
		}
		if !ours {
			t.Errorf("lost: %s", l)
		}
	}
}

// TestNVAOfALaterVersion: fields that this version does not know survive what it writes; of a part that it changes only its own fields are left.
func TestNVAOfALaterVersion(t *testing.T) {
	text := ofLater(t, "testdata/nva.json", "", ".floor", ".facts.0", ".notice", ".partial.0")
	n, err := state.DecodeNVA(text)
	if err != nil {
		t.Fatal(err)
	}
	back, err := state.EncodeNVA(n)
	if err != nil {
		t.Fatal(err)
	}
	keeps(t, text, back)

	c := n.Copy()
	c.Obey(state.Order{Drain: true, At: epochTime(99), ID: "1", Who: "jo"})
	c.Revision++
	if back, err = state.EncodeNVA(c); err != nil {
		t.Fatal(err)
	}
	keeps(t, text, back, ".revision", ".since", ".schema")
	if _, err = c.Merge(event.Event{Domain: "hub", NVA: "nva-a", Boot: c.Boot, Kind: event.Goodbye, Version: event.Version{Epoch: c.Epoch, Seq: c.Claim.Seq + 1}, Beat: c.Alive.Beat}, epochTime(100)); err != nil {
		t.Fatal(err)
	}
	if back, err = state.EncodeNVA(c); err != nil {
		t.Fatal(err)
	}
	keeps(t, text, back, ".revision", ".since", ".schema", ".clone", ".claim", ".notice", ".seen", ".lastSeen", ".digest", ".outbox", ".signedBy")
	if bytes.Contains(back, []byte(`"said":".notice"`)) {
		t.Error("what a later version said of the old notice stands beside the new one")
	}
}

// TestTargetOfALaterVersion: the same for a target.
func TestTargetOfALaterVersion(t *testing.T) {
	text := ofLater(t, "testdata/target.json", "", ".intents.0", ".result", ".pending")
	doc, err := state.DecodeTarget(text)
	if err != nil {
		t.Fatal(err)
	}
	doc.Wakes++
	doc.Intents = append(doc.Intents, state.Intent{Run: "run-3", Since: epochTime(50), Until: epochTime(80)})
	back, err := state.EncodeTarget(doc)
	if err != nil {
		t.Fatal(err)
	}
	keeps(t, text, back, ".wakes", ".intents has")
	if !bytes.Contains(back, []byte(`"said":".intents.0"`)) {
		t.Error("the other run's intent has lost what a later version said of it")
	}
	doc.Note(state.Result{At: epochTime(60), Outcome: state.Unchanged})
	if back, err = state.EncodeTarget(doc); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(back, []byte(`"said":".result"`)) || !bytes.Contains(back, []byte(`"said":""`)) {
		t.Errorf("the new result has the old one's field, or the document has lost its own: %s", back)
	}
}

// TestOtherDocumentsOfALaterVersion: beliefs and counts too.
func TestOtherDocumentsOfALaterVersion(t *testing.T) {
	const beliefs = `{"schema":1,"domain":"hub","seq":7,"nvas":{"nva-a":"up"},"later":[1]}`
	b, err := state.DecodeBeliefs([]byte(beliefs))
	if err != nil {
		t.Fatal(err)
	}
	b.NVAs["nva-a"] = "down"
	back, err := state.EncodeBeliefs(b)
	if err != nil {
		t.Fatal(err)
	}
	keeps(t, []byte(beliefs), back, ".nvas")
	const counts = `{"schema":1,"events":{"woken":1},"later":{"x":2}}`
	c, err := state.DecodeDriftCounts([]byte(counts))
	if err != nil {
		t.Fatal(err)
	}
	c.Events["woken"]++
	if back, err = state.EncodeDriftCounts(c); err != nil {
		t.Fatal(err)
	}
	keeps(t, []byte(counts), back, ".events")
	const orders = `{"schema":1,"domain":"hub","refused":{"count":1,"at":"2026-05-28T20:26:40Z","reason":"r"},"later":3}`
	o, err := state.DecodeOrders([]byte(orders))
	if err != nil {
		t.Fatal(err)
	}
	o.Refused.Count++
	if back, err = state.EncodeOrders(o); err != nil {
		t.Fatal(err)
	}
	keeps(t, []byte(orders), back, ".refused")
}

// TestSchemaIsTheLowestThatIsEnough: the version before reads whatever it can do no harm to, and refuses what holds an operator's word.
func TestSchemaIsTheLowestThatIsEnough(t *testing.T) {
	schemaOf := func(body []byte, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ Schema int }
		if err = json.Unmarshal(body, &doc); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(doc.Schema)
	}
	for _, file := range []string{"nva.json", "target.json"} {
		if got := schemaOf(previous(t, file), nil); got != "1" {
			t.Errorf("the previous version wrote schema %s", got)
		}
	}
	nva, err := state.DecodeNVA(previous(t, "nva.json"))
	if err != nil {
		t.Fatal(err)
	}
	target, err := state.DecodeTarget(previous(t, "target.json"))
	if err != nil {
		t.Fatal(err)
	}
	before := schemaOf(state.EncodeNVA(nva)) + schemaOf(state.EncodeTarget(target))
	nva.Obey(state.Order{Drain: true, At: epochTime(99), ID: "1", Who: "jo"})
	paused := *target
	paused.Obey(order.Order{Kind: order.Pause, Domain: "hub", Target: "spokes", ID: "1", Who: "jo"}, epochTime(99))
	target.Obey(order.Order{Kind: order.Approve, Domain: "hub", Target: "spokes", Plan: "p", ID: "1", Who: "jo"}, epochTime(99))
	after := schemaOf(state.EncodeNVA(nva)) + schemaOf(state.EncodeTarget(&paused)) + schemaOf(state.EncodeTarget(target))
	nva.Obey(state.Order{At: epochTime(100), ID: "2", Who: "jo"})
	paused.Obey(order.Order{Kind: order.Unpause, Domain: "hub", Target: "spokes", ID: "2", Who: "jo"}, epochTime(100))
	target.Approval.Ended = epochTime(100)
	taken := schemaOf(state.EncodeNVA(nva)) + schemaOf(state.EncodeTarget(&paused)) + schemaOf(state.EncodeTarget(target))
	nva.Order.Operator, paused.Pause.Operator, target.Approval.Operator = "jo", "jo", "jo"
	if signed := schemaOf(state.EncodeNVA(nva)) + schemaOf(state.EncodeTarget(&paused)) + schemaOf(state.EncodeTarget(target)); signed != "222" {
		t.Errorf("schemas %s with a signed word that was taken back, want 222: it is what a repeated one is told by", signed)
	}
	if before != "11" || after != "222" || taken != "111" {
		t.Errorf("schemas %s without an operator's word, %s with one, %s after it; want 11, 222 and 111", before, after, taken)
	}
}
