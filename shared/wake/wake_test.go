package wake_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/wake"
	"github.com/pointsman/pointsman/test/compat"
)

func wakes() *rapid.Generator[wake.Wake] {
	name := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?`)
	return rapid.Custom(func(t *rapid.T) wake.Wake {
		w := wake.Wake{
			Domain: name.Draw(t, "domain"), Target: name.Draw(t, "target"),
			Cause:   rapid.StringMatching(`[a-z0-9-]{1,40}/[0-9]{1,20}`).Draw(t, "cause"),
			Attempt: rapid.IntRange(0, 1000).Draw(t, "attempt"),
			Events:  rapid.SliceOfN(rapid.StringMatching(`[a-z0-9/-]{1,128}`), 0, wake.MaxEvents).Draw(t, "events"),
		}
		for _, at := range []*time.Time{&w.Observed, &w.Said, &w.Queued, &w.Taken, &w.Merged, &w.Woken} {
			if rapid.Bool().Draw(t, "known") {
				*at = time.Unix(0, rapid.Int64Range(1, 1<<62).Draw(t, "time")).UTC()
			}
		}
		w.Traceparent = rapid.SampledFrom([]string{"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}).Draw(t, "traceparent")
		w.Links = rapid.SliceOfN(rapid.StringMatching(`00-[1-3]`), 0, wake.MaxEvents).Draw(t, "links")
		return w
	})
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := wakes().Draw(t, "wake")
		m, err := w.Message()
		if err != nil {
			t.Fatal(err)
		}
		back, err := wake.Decode(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(w, back, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		if m.Traceparent != w.Traceparent || m.ID != w.ID() || m.Subject != w.Target || m.ContentType != "application/json" {
			t.Fatalf("message %+v", m)
		}
	})
}

func TestIDNamesWhatIsSaid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := wakes().Draw(t, "a"), wakes().Draw(t, "b")
		if rapid.Bool().Draw(t, "close") {
			b.Domain, b.Target, b.Cause = a.Domain, a.Target, a.Cause
		}
		if len(a.ID()) > 128 {
			t.Fatalf("%q has %d characters, Service Bus takes 128", a.ID(), len(a.ID()))
		}
		equal := a.Domain == b.Domain && a.Target == b.Target && a.Cause == b.Cause && a.Attempt == b.Attempt
		if (a.ID() == b.ID()) != equal {
			t.Fatalf("ids %q and %q", a.ID(), b.ID())
		}
	})
}

func TestID(t *testing.T) {
	for _, tt := range []struct {
		wake wake.Wake
		want string
	}{
		{wake.Wake{Domain: "hub", Target: "spokes", Cause: "nva-a/17"}, "hub/spokes/nva-a/17"},
		{wake.Wake{Domain: "hub", Target: "spokes", Cause: "nva-a/17", Attempt: 2}, "hub/spokes/nva-a/17/2"},
	} {
		if got := tt.wake.ID(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	long := wake.Wake{Domain: strings.Repeat("d", 40), Target: strings.Repeat("t", 40), Cause: strings.Repeat("n", 40) + "/1000000"}
	later := long
	later.Cause = strings.Repeat("n", 40) + "/1000001"
	if long.ID() == later.ID() || !strings.HasPrefix(long.ID(), long.Domain+"/"+long.Target+"/") {
		t.Errorf("long ids: %q, %q", long.ID(), later.ID())
	}
}

func TestDecodeRefuses(t *testing.T) {
	for body, want := range map[string]string{
		`{`:                                  "JSON",
		`{"domain":"hub"}`:                   `target ""`,
		`{"domain":"Hub","target":"a"}`:      `domain "Hub"`,
		`{"domain":"hub","target":"a/b"}`:    `target "a/b"`,
		`{"domain":"hub","target":7}`:        "target",
		`{"domain":"h","target":"t"}{"x":1}`: "JSON",
	} {
		if _, err := wake.Decode([]byte(body)); !fault.Is(err, fault.Poison) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want Poison that names %q", body, err, want)
		}
	}
	if _, err := wake.Decode([]byte(`{"domain":"hub","target":"a","new":1}`)); err != nil {
		t.Errorf("an unknown field: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"domain":"hub","target":"spokes","cause":"nva-a/17","attempt":1,"events":["hub/nva-a/1/2"],"observed":"2026-05-28T20:26:40Z"}`))
	f.Add([]byte(`{"domain":"hub","target":"spokes","cause":"","attempt":-1,"events":[null]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		w, err := wake.Decode(body)
		if err != nil {
			if !fault.Is(err, fault.Poison) {
				t.Fatalf("%s error: %v", fault.KindOf(err), err)
			}
			return
		}
		m, err := w.Message()
		if err != nil {
			t.Fatalf("accepted, but not to be written: %v", err)
		}
		back, err := wake.Decode(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(w, back, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// News that is joined keeps what was there first, each thing once, within bounds, and goes on with the way of what was seen first.
func TestJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := wakes().Draw(t, "a"), wakes().Draw(t, "b")
		if rapid.Bool().Draw(t, "some are the same") {
			b.Events = slices.Concat(b.Events[:len(b.Events)/2], a.Events[:len(a.Events)/2])
		}
		x, y := wake.News{}.Join(a.News()), b.News()
		both := x.Join(y)
		if len(both.Events) > wake.MaxEvents || len(both.Traces) > wake.MaxEvents {
			t.Fatalf("too many: %+v", both)
		}
		for i, e := range x.Events {
			if both.Events[i] != e || slices.Index(both.Events, e) != i {
				t.Fatalf("%q joined with %q is %q", x.Events, y.Events, both.Events)
			}
		}
		for _, e := range y.Events {
			if len(both.Events) < wake.MaxEvents && !slices.Contains(both.Events, e) {
				t.Fatalf("%q joined with %q is %q", x.Events, y.Events, both.Events)
			}
		}
		if diff := cmp.Diff(both.Events, both.Join(x).Events, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("once more changes it: %s", diff)
		}
		for _, n := range []wake.News{x, y} {
			if !n.Observed.IsZero() && (both.Observed.IsZero() || n.Observed.Before(both.Observed)) {
				t.Fatalf("observed at %s and %s, joined at %s", x.Observed, y.Observed, both.Observed)
			}
		}
		if both.Sent != x.Sent && both.Sent != y.Sent {
			t.Fatalf("the way is of neither: %+v", both.Sent)
		}
	})
}

// What a version before sent is read, and what this one sends has the members that it knew under the same names.
func TestOlderWakes(t *testing.T) {
	const old = `{"domain":"hub","target":"spokes","cause":"nva-a/17","events":["hub/nva-a/1/2"],"observed":"2026-05-28T20:26:40Z",` +
		`"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`
	w, err := wake.Decode([]byte(old))
	if err != nil || w.Observed.IsZero() || !w.Said.IsZero() || len(w.News().Traces) != 1 {
		t.Errorf("got %+v (%v)", w, err)
	}
	m, err := w.Message()
	if lost, bad := compat.Lost([]byte(old), m.Body); err != nil || bad != nil || len(lost) > 0 {
		t.Errorf("%s lacks %q (%v, %v)", m.Body, lost, err, bad)
	}
}

// News that are passed on are the same news.
func TestWithNews(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, other := wakes().Draw(t, "wake"), wakes().Draw(t, "other")
		if diff := cmp.Diff(other.News(), w.With(other.News()).News(), cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}
