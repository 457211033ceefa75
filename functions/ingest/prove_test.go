package ingest_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
	"github.com/pointsman/pointsman/shared/signature"
	"github.com/pointsman/pointsman/shared/state"
)

func private(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func public(n byte) signature.Key { return signature.KeyOf(private(n)) }

// signing is a world whose nva-a has the keys 1 and 2; nva-b has none.
func signing(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	keys := `keys: ["` + public(1).String() + `", "` + public(2).String() + `"]`
	w.set("domains/hub.yaml", []byte(strings.Replace(hub, `nextHops: [10.0.0.4],`, `nextHops: [10.0.0.4], `+keys+`,`, 1)))
	return w
}

func signed(t *testing.T, n byte, m invocation.Message) invocation.Message {
	t.Helper()
	body, err := signature.Sign(private(n), m.Body)
	if err != nil {
		t.Fatal(err)
	}
	m.Body = body
	return m
}

func TestSignedEventsAreTakenIn(t *testing.T) {
	w := signing(t)
	w.mustHandle(signed(t, 1, says(t, "nva-a", 1, nil)), says(t, "nva-b", 1, nil))
	if a, b := w.nva("nva-a"), w.nva("nva-b"); len(a.RIB()) != 1 || len(b.RIB()) != 1 || a.SignedBy != public(1).ID() || b.SignedBy != "" || len(w.parked) != 0 {
		t.Errorf("nva-a: %d prefixes, signed by %q; nva-b: %d, %q; parked %v", len(a.RIB()), a.SignedBy, len(b.RIB()), b.SignedBy, w.parked)
	}
	var indented bytes.Buffer // as somebody on the way may write it
	m := signed(t, 2, says(t, "nva-a", 2, nil))
	if err := json.Indent(&indented, m.Body, "", "\t"); err != nil {
		t.Fatal(err)
	}
	m.Body = indented.Bytes()
	w.mustHandle(m)
	if a := w.nva("nva-a"); len(a.RIB()) != 2 || a.SignedBy != public(2).ID() || a.Refused.Count != 0 {
		t.Errorf("after the second key: %d prefixes, signed by %q, refused %+v", len(a.RIB()), a.SignedBy, a.Refused)
	}
}

// A signature is ignored where the domain file has no keys, be it right or wrong: old and new agents work before keys are added.
func TestWithoutKeysSignaturesAreIgnored(t *testing.T) {
	w := newWorld(t)
	wrong := signed(t, 1, says(t, "nva-a", 2, nil))
	wrong.Body = bytes.Replace(wrong.Body, []byte("ed25519:"), []byte("rot13:"), 1)
	w.mustHandle(says(t, "nva-a", 1, nil), wrong, signed(t, 3, says(t, "nva-a", 3, nil)))
	if a := w.nva("nva-a"); len(a.RIB()) != 3 || a.Refused.Count != 0 || a.SignedBy != "" {
		t.Errorf("%d prefixes, refused %+v, signed by %q", len(a.RIB()), a.Refused, a.SignedBy)
	}
}

// TestRefused: what is not signed as it must be changes nothing but the count, wakes nobody, is parked with its reason, and keeps nothing else back.
func TestRefused(t *testing.T) {
	replace := func(m invocation.Message, old, with string) invocation.Message {
		changed := bytes.Replace(m.Body, []byte(old), []byte(with), 1)
		if bytes.Equal(changed, m.Body) {
			t.Fatalf("%s is not in the event", old)
		}
		m.Body = changed
		return m
	}
	expired := func(e *event.Event) { e.Kind, e.Announce, e.Beat = event.Expired, nil, 9 }
	for name, tt := range map[string]struct {
		message invocation.Message
		reason  string
	}{
		"not signed":                 {says(t, "nva-a", 7, nil), "is not signed"},
		"another key":                {signed(t, 3, says(t, "nva-a", 7, nil)), "signed with key " + public(3).ID()},
		"a changed prefix":           {replace(signed(t, 1, says(t, "nva-a", 7, nil)), "10.64.7.0", "10.64.8.0"), "does not fit its signature"},
		"a field more":               {replace(signed(t, 1, says(t, "nva-a", 7, nil)), `"beat"`, `"soon":1,"beat"`), "does not fit its signature"},
		"a dead-man switch unsigned": {says(t, "nva-a", 7, expired), "is not signed"},
		"of two NVAs":                {replace(signed(t, 1, replace(says(t, "nva-a", 7, nil), `"nva":"nva-a"`, `"nVA":"nva-b","nva":"nva-a"`)), `"nVA":"nva-b",`, ``), "does not fit"},
		"a field twice":              {replace(signed(t, 1, says(t, "nva-a", 7, nil)), `"data":{`, `"data":{"beat":9,`), "stands twice"},
		"read in another order":      {signed(t, 1, replace(says(t, "nva-a", 7, nil), `"nva":"nva-a"`, `"nVa":"nva-b","Nva":"nva-a"`)), "what is signed is of nva hub/nva-b"},
	} {
		t.Run(name, func(t *testing.T) {
			w := signing(t)
			w.mustHandle(signed(t, 1, says(t, "nva-a", 1, nil)))
			before := w.nva("nva-a")
			w.wakes = nil
			w.mustHandle(tt.message, says(t, "nva-b", 1, nil))
			p, ok := w.parked[tt.message.ID]
			if !ok || !strings.Contains(p.Reason, tt.reason) || p.Body != string(tt.message.Body) {
				t.Errorf("parked: %+v, want the reason %q", p, tt.reason)
			}
			after := w.nva("nva-a")
			if r := after.Refused; r.Count != 1 || !r.At.Equal(w.now) || !strings.Contains(r.Reason, tt.reason) {
				t.Errorf("refused %+v", r)
			}
			after.Refused = state.Refusals{}
			was, err := state.EncodeNVA(before)
			is, failed := state.EncodeNVA(after)
			if err != nil || failed != nil || !bytes.Equal(was, is) {
				t.Errorf("the document changed:\n%s\n%s", was, is)
			}
			if slices.ContainsFunc(w.wakes, func(id string) bool { return strings.Contains(id, "/nva-a/") }) || len(w.nva("nva-b").RIB()) != 1 {
				t.Errorf("wakes %q; nva-b has %d prefixes", w.wakes, len(w.nva("nva-b").RIB()))
			}
			for _, secret := range []string{base64.StdEncoding.EncodeToString(private(1).Seed()), public(1).String(), public(3).String()} {
				if strings.Contains(w.log.String()+p.Reason, secret) {
					t.Error("a key is in the log or the reason")
				}
			}
		})
	}
}

// The NVA of a wrong key is in Status although it was never heard.
func TestRefusedAndNeverHeard(t *testing.T) {
	w := signing(t)
	w.mustHandle(signed(t, 3, says(t, "nva-a", 1, nil)), says(t, "nva-a", 2, nil))
	d, problems := config.Parse("domains/hub.yaml", w.blobs["domains/hub.yaml"].data)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	docs, err := documents.NewStore(w, 1).NVAs(t.Context(), d)
	if err != nil || docs["nva-a"] == nil || docs["nva-a"].Refused.Count != 2 || docs["nva-a"].Heard() || docs["nva-b"] != nil {
		t.Errorf("documents %v (%v)", docs, err)
	}
}

// Every call goes wrong once: in the end the refused event is parked and counted, once at least, and the signed one is in the document.
func TestRefusalsSurviveEveryFault(t *testing.T) {
	batch := func() []invocation.Message {
		return []invocation.Message{says(t, "nva-a", 7, nil), signed(t, 1, says(t, "nva-a", 1, nil))}
	}
	clean := signing(t)
	clean.mustHandle(batch()...)
	for _, f := range []fate{{skip: true, err: errors.New("away")}, {err: errors.New("away")}, {skip: true, crash: true}, {crash: true}} {
		for n := 1; n <= len(clean.ops); n++ {
			w := signing(t)
			w.fate = nth("", n, n, f)
			for delivery := 1; ; delivery++ {
				if delivery > 3 {
					t.Fatalf("call %d: still not completed", n)
				}
				if died, err := w.handle(batch()...); err == nil && !died {
					break
				}
			}
			a := w.nva("nva-a")
			if len(w.parked) != 1 || len(a.RIB()) != 1 || a.Outbox || a.Refused.Count < 1 || a.Refused.Count > 3 {
				t.Errorf("call %d (%s): parked %d, %d prefixes, outbox %t, refused %d", n, clean.ops[n-1], len(w.parked), len(a.RIB()), a.Outbox, a.Refused.Count)
			}
		}
	}
}

// The journal keeps what was accepted, with its signature: whoever replays it can check it again.
func TestJournalKeepsSignatures(t *testing.T) {
	m := signed(t, 1, says(t, "nva-a", 1, nil))
	line, err := journal.Line(m.Body, time.Unix(1780000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, by, failed := signature.Open(line, []signature.Key{public(1)}); failed != nil || by != public(1) {
		t.Errorf("the line is not signed any more: %v\n%s", failed, line)
	}
}
