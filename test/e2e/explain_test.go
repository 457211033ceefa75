package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/test/system"
)

// explained is what pointsman explain --output json says of one prefix.
type explained struct {
	Prefix     string
	NextHops   string
	Plan       string
	Installed  *struct{ NextHop string }
	LastChange *struct {
		At     time.Time
		From   string
		To     string
		Events []string
		By     []string
	}
}

// The whole of the demonstration, from its recorded events: after each of its acts explain has an answer for every prefix, with since when and because
// of which event; and what the journal has of it replays to the same writes.
func TestExplainAnswersForEveryPrefixOfTheDemo(t *testing.T) {
	t.Parallel()
	w := start(t, quick)
	journal, err := os.ReadFile(filepath.Join(system.Root(), "test", "demo", "testdata", "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	all := system.Prefixes(300)
	args := []string{"explain", "--output", "json", "--domain", "hub"}
	for _, p := range all {
		args = append(args, p.String())
	}
	env := w.Environment()
	held := "10.64.7.0/24" // by a route of somebody else
	check := func(act, hop string, because func(string) bool) {
		t.Helper()
		w.carries(hop, withoutBlocked(all))
		w.settled()
		got := run(t, env, "pointsman", args...)
		var list []explained
		if err = json.Unmarshal([]byte(got.stdout), &list); err != nil || len(list) != len(all) {
			t.Fatalf("%s: %d explanations (%v): %s", act, len(list), err, got.stderr)
		}
		for i, e := range list {
			switch {
			case e.Prefix != all[i].String() || e.NextHops != hop:
				t.Fatalf("%s: %s is chosen to go to %s, want %s to %s", act, e.Prefix, e.NextHops, all[i], hop)
			case e.Prefix == held:
				if e.LastChange != nil {
					t.Errorf("%s: %s was never written, and changed %+v", act, held, e.LastChange)
				}
			case e.LastChange == nil || e.LastChange.At.IsZero() || e.LastChange.To != hop || e.Installed == nil || e.Installed.NextHop != hop || e.Plan != "nothing to change":
				t.Fatalf("%s: %s: %+v, last change %+v", act, e.Prefix, e, e.LastChange)
			case len(e.LastChange.Events) == 0 || !because(strings.Join(e.LastChange.Events, " ")) || len(e.LastChange.By) != 1:
				t.Fatalf("%s: %s changed because of %q, said in %q", act, e.Prefix, e.LastChange.Events, e.LastChange.By)
			}
		}
	}
	var a, b []event.Event
	for line := range bytes.Lines(journal) {
		e, bad := event.Decode(bytes.TrimSpace(line))
		if bad != nil {
			t.Fatal(bad)
		}
		if e.NVA == "nva-a" {
			a = append(a, e)
		} else {
			b = append(b, e)
		}
	}
	last := a[len(a)-2] // before it died; the last one is the snapshot after its return
	of := func(nva string) func(string) bool {
		return func(events string) bool { return strings.Contains(events, "hub/"+nva+"/") }
	}
	w.publish(b...)
	check("nva-b alone", hopB, of("nva-b"))
	w.publish(a[:len(a)-1]...)
	check("nva-a learns, withdraws and gets back", hopA, of("nva-a"))
	w.publish(event.Event{Domain: "hub", NVA: "nva-a", Kind: event.Expired, Version: last.Version, Boot: last.Boot, Beat: last.Beat, Time: time.Now()})
	death := fmt.Sprintf("hub/nva-a/%d/beat-%d", last.Version.Epoch, last.Beat)
	check("nva-a dies", hopB, func(events string) bool { return strings.Contains(events, death) })
	w.publish(a[len(a)-1])
	check("nva-a returns", hopA, of("nva-a"))
	w.replaysToTheSame()
}

// change is what a write did to a prefix.
type change struct{ Prefix, From, To string }

// oneWrite is a write as "10.64.0.0/24 10.0.0.4>10.0.0.5", in order.
func oneWrite(parts ...[]change) (out []string) {
	for _, c := range slices.Concat(parts...) {
		out = append(out, c.Prefix+" "+c.From+">"+c.To)
	}
	slices.Sort(out)
	return out
}

// replaysToTheSame fails where the journal of all that was said does not lead to the writes that the table has seen.
func (w *world) replaysToTheSame() {
	w.t.Helper()
	ask := func(args ...string) *json.Decoder { // of one value or several
		w.t.Helper()
		got := run(w.t, w.Environment(), "pointsman", append(args, "--output", "json")...)
		if got.code != 0 {
			w.t.Fatalf("pointsman %v: %s", args, got.stderr)
		}
		return json.NewDecoder(strings.NewReader(got.stdout))
	}
	var seen, again [][]string
	for history := ask("history", "spokes", "--domain", "hub"); history.More(); {
		var line struct{ Adds, Moves, Removals []change }
		if err := history.Decode(&line); err != nil {
			w.t.Fatal(err)
		}
		seen = append(seen, oneWrite(line.Adds, line.Moves, line.Removals))
	}
	var replayed struct {
		Targets []struct {
			Writes []struct{ Added, Changed, Removed []change }
		}
	}
	replay := ask("replay", "state:journal/hub/", "--config", file(w.t, "hub.yaml", hub), "--table", file(w.t, "table.json", others), "--write-duration", quick.String())
	if err := replay.Decode(&replayed); err != nil {
		w.t.Fatal(err)
	}
	for _, r := range replayed.Targets[0].Writes {
		again = append(again, oneWrite(r.Added, r.Changed, r.Removed))
	}
	if diff := cmp.Diff(seen, again); diff != "" || len(seen) < 4 {
		w.t.Errorf("%d writes; the journal replays to others, -seen +replayed:\n%s", len(seen), diff)
	}
}
