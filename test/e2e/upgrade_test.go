package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/test/system"
)

// TestUpgradeWithoutAGap swaps the function app while events flow. Nothing may be lost: the table ends as the events say, every event of the agent is merged,
// none is parked or dead. Nothing may be written twice: every write of the table changes it, and is told once. And what a later version has put into the
// documents is still there, whichever version wrote them last.
func TestUpgradeWithoutAGap(t *testing.T) {
	// No change waits for company, and no prefix is kept away because it comes and goes.
	prompt := strings.Replace(hub, "policy:\n", "policy:\n  writePrice: 0\n  damping: {halfLife: 0s}\n", 1)
	for _, tt := range []struct {
		name   string
		swap   func(w *world) error
		fences int // writes that may change nothing: those that make a late write of a killed run fail
	}{
		{name: "a new instance comes, the old one is drained", swap: func(w *world) error {
			old := w.Host
			return errors.Join(w.StartHost(w.t.Context()), old.Close())
		}},
		{name: "the old instance ends before the new one comes", swap: func(w *world) error {
			return errors.Join(w.Host.Close(), w.StartHost(w.t.Context()))
		}},
		{name: "SIGTERM, and the host starts the handler that is there now", swap: (*world).replaceHandler},
		{name: "kill -9 of the old handler", fences: 1, swap: func(w *world) error {
			old := w.Host
			return errors.Join(w.StartHost(w.t.Context()), syscall.Kill(old.HandlerPID(), syscall.SIGKILL), old.Close())
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := startWith(t, system.Config{
				AppRoot: ownApp(t), TableWrite: quick, Domains: map[string]string{"hub": prompt}, Tables: map[string]json.RawMessage{system.TableID: json.RawMessage(others)},
			})
			prefixes := system.Prefixes(7)
			w.publish(w.said("nva-a", event.Snapshot, announce(prefixes)), w.said("nva-b", event.Snapshot, announce(prefixes)))
			w.carries(hopA, prefixes)
			w.settled()
			w.sayInDocuments()
			before, writes := w.foreign(), w.watchWrites()

			truth := w.flow(prefixes, func() error { return tt.swap(w) })
			for p, hop := range truth {
				w.carries(hop, []netip.Prefix{p})
			}
			w.settled()

			w.keeps(before)
			w.nothingLost()
			if same := writes.unchanged(); same > tt.fences {
				t.Errorf("%d writes changed nothing, want at most %d", same, tt.fences)
			}
			if tt.fences == 0 {
				w.toldOnce(writes.count())
			}
		})
	}
}

// TestDocumentOfALaterSchemaIsLeftAlone: a version that does not know how a target's document must be read writes neither it nor the table, says so, and forgets nothing: as soon as the document
// can be read again (by the version that wrote it, in earnest), the table follows without another event.
func TestDocumentOfALaterSchemaIsLeftAlone(t *testing.T) {
	t.Parallel()
	w, prefixes := carried(t, 5, quick)
	const target, ours, later = "targets/hub/spokes.json", `"schema":1,`, `"schema":99,`
	known := w.document(target)
	if !bytes.Contains(known, []byte(ours)) {
		t.Fatalf("the document is of another schema: %s", known)
	}
	unknown := bytes.Replace(known, []byte(ours), []byte(later), 1)
	w.put(target, unknown)
	w.dies()
	w.logs("document of target spokes has schema 99, this version reads 1 to 2")
	if diff := cmp.Diff(string(unknown), string(w.document(target))); diff != "" {
		t.Errorf("the document was written:\n%s", diff)
	}
	if puts := w.calls("routeTables.CreateOrUpdate"); puts > 0 {
		t.Errorf("the table was written %d times", puts)
	}
	w.put(target, known)
	w.carries(hopB, prefixes)
}

// ownApp is a copy of the staged app, whose handler can be replaced.
func ownApp(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(system.Root(), "dist", "app"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// replaceHandler puts another file in the handler's place, as a deployment does, and asks the running one to end.
func (w *world) replaceHandler() error {
	old := w.Host.HandlerPID()
	running, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", old))
	if err != nil {
		return fmt.Errorf("the running handler: %w", err)
	}
	text, err := os.ReadFile(running)
	if err != nil {
		return fmt.Errorf("the running handler: %w", err)
	}
	if err = errors.Join(os.WriteFile(running+".new", text, 0o700), os.Rename(running+".new", running)); err != nil { // a program
		return fmt.Errorf("the new handler: %w", err)
	}
	if err = syscall.Kill(old, syscall.SIGTERM); err != nil {
		return fmt.Errorf("SIGTERM: %w", err)
	}
	w.until("the host has started the new handler", func() error {
		pid := w.Host.HandlerPID()
		if exe, failed := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); pid == old || pid == 0 || exe != running {
			return fmt.Errorf("handler %d runs %q (%w)", pid, exe, failed)
		}
		return nil
	})
	return nil
}

// flow publishes changes of nva-a while do is under way, and some before and after. It returns what the table must say in the end.
func (w *world) flow(prefixes []netip.Prefix, do func() error) map[netip.Prefix]string {
	w.t.Helper()
	const around = 12 // rounds before and after
	truth := map[netip.Prefix]string{}
	done := make(chan error, 1)
	for round, left := 0, around; left > 0; round++ {
		p := prefixes[round%len(prefixes)]
		truth[p] = hopB
		change := withdraw([]netip.Prefix{p})
		if round/len(prefixes)%2 == 1 {
			truth[p], change = hopA, announce([]netip.Prefix{p})
		}
		w.publish(w.said("nva-a", event.Delta, change))
		if round == around {
			go func() { done <- do() }()
		}
		w.until("the events are taken in", func() error {
			if q, _ := w.Bus.Queue("route-events"); q.Active > 2 {
				return fmt.Errorf("%d wait", q.Active)
			}
			return nil
		})
		select {
		case err := <-done:
			if err != nil {
				w.t.Fatal(err)
			}
			done <- nil
			left--
		default:
		}
	}
	return truth
}

// nothingLost fails where an event of nva-a was not merged, or was put aside.
func (w *world) nothingLost() {
	w.t.Helper()
	nva, err := state.DecodeNVA(w.document("nvas/hub/nva-a.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff([]state.Span{{First: 1, Last: w.seqs["nva-a"]}}, nva.Seen); diff != "" {
		w.t.Errorf("not every event was merged (-sent +merged):\n%s", diff)
	}
	for _, queue := range []string{"route-events", "reconcile"} {
		if q, _ := w.Bus.Queue(queue); q.DeadLettered > 0 {
			w.t.Errorf("%s has %d dead letters", queue, q.DeadLettered)
		}
	}
	w.shows("pointsman_parked_messages 0")
	for _, name := range []string{"nvas/hub/nva-a.json", "targets/hub/spokes.json"} {
		if !bytes.Contains(w.document(name), []byte(laterField)) {
			w.t.Errorf("%s has lost what a later version said", name)
		}
	}
}

// toldOnce fails where the history has not one line for each write.
func (w *world) toldOnce(writes int) {
	w.t.Helper()
	lines := 0
	for line := range strings.Lines(string(w.document("history/hub/spokes/" + time.Now().UTC().Format(time.DateOnly) + ".jsonl"))) {
		if strings.Contains(line, `"moves"`) { // the first write, before the swap, only added
			lines++
		}
	}
	if lines != writes {
		w.t.Errorf("the history has %d lines for %d writes", lines, writes)
	}
}

const laterField = `"ofALaterVersion":{"x":[1]}`

// sayInDocuments adds a field to the documents as a later version would.
func (w *world) sayInDocuments() {
	w.t.Helper()
	for _, name := range []string{"nvas/hub/nva-a.json", "targets/hub/spokes.json"} {
		w.put(name, bytes.Replace(w.document(name), []byte("{"), []byte("{"+laterField+","), 1))
	}
}

// put writes a document past Pointsman.
func (w *world) put(name string, text []byte) {
	w.t.Helper()
	store, err := w.Container("pointsman")
	if err != nil {
		w.t.Fatal(err)
	}
	if err = store.Put(w.t.Context(), name, text); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) document(name string) []byte {
	w.t.Helper()
	store, err := w.Container("pointsman")
	if err != nil {
		w.t.Fatal(err)
	}
	text, _, err := store.Read(w.t.Context(), name, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// writes are the writes of the table that were accepted.
type writes struct {
	mu        sync.Mutex
	all, same int
}

var changing = regexp.MustCompile(`"(etag|provisioningState)":"([^"\\]|\\.)*"`)

func (w *world) watchWrites() *writes {
	seen := &writes{}
	w.ARM.Observe(func(e arm.Event) {
		if e.Kind != arm.WriteAccepted {
			return
		}
		seen.mu.Lock()
		defer seen.mu.Unlock()
		seen.all++
		if bytes.Equal(changing.ReplaceAll(e.Before, nil), changing.ReplaceAll(e.After, nil)) {
			seen.same++
		}
	})
	return seen
}

func (w *writes) unchanged() int { w.mu.Lock(); defer w.mu.Unlock(); return w.same }

func (w *writes) count() int { w.mu.Lock(); defer w.mu.Unlock(); return w.all }
