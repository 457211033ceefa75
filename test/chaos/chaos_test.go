//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/test/netns"
	"github.com/pointsman/pointsman/test/system"
)

func TestMain(m *testing.M) {
	if file, ok := asHost(os.Args); ok {
		os.Exit(serveHost(file))
	}
	os.Exit(netns.Main(m))
}

// build makes the function app and the agent in a directory of their own: other tests may be making those in dist.
func build(t *testing.T) (app, agent string) {
	t.Helper()
	root, dir := system.Root(), t.TempDir()
	app, agent = filepath.Join(dir, "app"), filepath.Join(dir, "pointsman-agent")
	files, err := filepath.Glob(filepath.Join(root, "functions", "*", "function.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("no functions:", err)
	}
	copyFile(t, filepath.Join(root, "host.json"), filepath.Join(app, "host.json"))
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file))
		copyFile(t, file, filepath.Join(app, strings.ToUpper(name[:1])+name[1:], "function.json"))
	}
	for out, what := range map[string]string{filepath.Join(app, "pointsman-handler"): "./cmd/pointsman-handler", agent: "./cmd/pointsman-agent"} {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, what)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if text, failed := cmd.CombinedOutput(); failed != nil {
			t.Fatalf("build %s: %v\n%s", what, failed, text)
		}
	}
	return app, agent
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o750)
	}
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestChaos is a short run; CHAOS and CHAOS_SEED in the environment set another duration and a seed.
func TestChaos(t *testing.T) {
	o := options{duration: 20 * time.Second, seed: uint64(time.Now().UnixNano() % 1e9)}
	var err error
	if text := os.Getenv("CHAOS"); text != "" {
		if o.duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		if o.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	o.app, o.agent = build(t)
	var out bytes.Buffer
	r, err := perform(t.Context(), o, &out)
	if err != nil || len(r.violations) > 0 {
		t.Errorf("%s\n%v", out.String(), err)
	}
	t.Logf("seed %d: %s", o.seed, r)
}

// TestScriptedAgents is the way without network namespaces.
func TestScriptedAgents(t *testing.T) {
	o := options{duration: 2 * time.Second, seed: 7, scripted: true}
	o.app, o.agent = build(t)
	var out bytes.Buffer
	if r, err := perform(t.Context(), o, &out); err != nil || len(r.violations) > 0 || r.writes == 0 {
		t.Errorf("%s\n%v\n%s", out.String(), err, r)
	}
}

// tableOf is a table with the given managed routes.
func tableOf(t *testing.T, hops map[string]string, edit ...string) json.RawMessage {
	t.Helper()
	text := string(seed()[system.TableID])
	var routes strings.Builder
	for p, hop := range hops {
		name := managed + strings.NewReplacer(".", "-", "/", "-").Replace(p)
		fmt.Fprintf(&routes, `{"name":%q,"properties":{"addressPrefix":%q,"nextHopType":"VirtualAppliance","nextHopIpAddress":%q}},`, name, p, hop)
	}
	text = strings.Replace(text, `"routes":[`, `"routes":[`+routes.String(), 1)
	return json.RawMessage(strings.NewReplacer(edit...).Replace(text))
}

// newWatched is a watch that has seen the table without managed routes, and an NVA that has announced the first prefix of the pool for long.
func newWatched(t *testing.T) (*watch, *journal) {
	t.Helper()
	log, real := newJournal(nil), newTruth()
	real.learn("nva-b", pool()[:1])
	real.holds["nva-b"][pool()[0]].known = time.Now().Add(-2 * standing)
	w := newWatch(log, real)
	c, err := read(tableOf(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	w.tables[strings.ToLower(system.TableID)].others = c.others
	return w, log
}

func TestWatchSeesBadWrites(t *testing.T) {
	p, other := pool()[0].String(), pool()[1].String()
	good := map[string]string{p: "10.0.0.5", other: "10.0.0.4"}
	many := map[string]string{}
	for _, prefix := range system.Prefixes(99) {
		many[prefix.String()] = "10.0.0.4"
	}
	for name, tt := range map[string]struct {
		after   map[string]string
		edit    []string
		pending string
		want    string // how the violation begins; "": there is none
	}{
		"nothing changed":              {after: good},
		"a move":                       {after: map[string]string{p: "10.0.0.4", other: "10.0.0.4"}},
		"nobody announces it":          {after: map[string]string{p: "10.0.0.5"}},
		"a living NVA announces it":    {after: map[string]string{other: "10.0.0.4"}, want: "I4: spokes: " + p},
		"a next hop that nobody has":   {after: map[string]string{p: "10.0.0.9", other: "10.0.0.4"}, want: "I3: spokes: " + p},
		"too many":                     {after: many, want: "I6: spokes has 102 routes"},
		"another's route changed":      {after: good, edit: []string{"10.9.9.9", "10.9.9.8"}, want: "I1: spokes: write accepted changed route to-firewall"},
		"a space in another's route":   {after: good, edit: []string{`"10.9.9.9"`, `"10.9.9.9 "`}, want: "I1: "},
		"another's route gone":         {after: good, edit: []string{`"drop"`, `"pointsman-drop"`}, want: "I1: spokes: write accepted changed route drop"},
		"a tag gone":                   {after: good, edit: []string{`"cost-centre":"4711",`, ""}, want: "I1: spokes: write accepted changed tags"},
		"the flag gone":                {after: good, edit: []string{`"disableBgpRoutePropagation":true,`, ""}, want: "I1: spokes: write accepted changed table"},
		"a next hop of an ECMP gone":   {after: good, edit: []string{`,"10.8.0.5"`, ""}, want: "I1: spokes: write accepted changed route balanced"},
		"its owner changed it":         {after: good, edit: []string{"10.9.9.9", "10.9.9.8"}, pending: "route to-firewall"},
		"the owner of another changed": {after: good, edit: []string{"10.9.9.9", "10.9.9.8"}, pending: "tags", want: "I1: "},
	} {
		t.Run(name, func(t *testing.T) {
			w, log := newWatched(t)
			if tt.pending != "" {
				w.editing(system.TableID, tt.pending, 1)
			}
			w.onTable(arm.Event{Kind: arm.WriteAccepted, Table: system.TableID, Before: tableOf(t, good), After: tableOf(t, tt.after, tt.edit...)})
			got := strings.Join(log.violations, "\n")
			if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
				t.Errorf("violations %q, want %q", got, tt.want)
			}
		})
	}
}

// TestAWriteKnowsWhatWasKnownBeforeItsETag: the documents are read after the table.
func TestAWriteKnowsWhatWasKnownBeforeItsETag(t *testing.T) {
	p := pool()[0].String()
	write := func(known time.Duration) int {
		w, log := newWatched(t)
		begin := time.Now().Add(-time.Second)
		w.tables[strings.ToLower(system.TableID)].changed = begin
		w.truth.holds["nva-b"][pool()[0]].known = begin.Add(known)
		w.onTable(arm.Event{Kind: arm.WriteAccepted, Table: system.TableID, Before: tableOf(t, map[string]string{p: "10.0.0.5"}), After: tableOf(t, nil)})
		return len(log.violations)
	}
	if n := write(-time.Millisecond); n != 1 {
		t.Errorf("known before the table was read: %d violations", n)
	}
	if n := write(time.Millisecond); n != 0 {
		t.Errorf("known after the table may have been read: %d violations", n)
	}
}

func TestAudit(t *testing.T) {
	put := func(match, body string) arm.Call {
		return arm.Call{At: time.Now(), Method: "PUT", Path: "/t", Operation: "routeTables.CreateOrUpdate", IfMatch: match, Body: []byte(body), Status: 200}
	}
	whole := `{"properties":{"routes":[]}}`
	for name, tt := range map[string]struct {
		call arm.Call
		want int
	}{
		"good":          {put(`W/"1"`, whole), 0},
		"no condition":  {put("", whole), 1},
		"any ETag":      {put("*", whole), 1},
		"no routes":     {put(`W/"1"`, `{"properties":{}}`), 1},
		"null routes":   {put(`W/"1"`, `{"properties":{"routes":null}}`), 1},
		"nothing right": {put("", ""), 2},
		"a read":        {arm.Call{Method: "GET", Operation: "routeTables.Get"}, 0},
	} {
		w, log := newWatched(t)
		calls := []arm.Call{tt.call}
		w.audit(calls)
		w.audit(append(calls, put(`W/"2"`, whole)))
		if got := len(log.violations); got != tt.want {
			t.Errorf("%s: %d violations, want %d: %v", name, got, tt.want, log.violations)
		}
		if want := 1 + map[bool]int{true: 1}[tt.call.Method == "PUT"]; log.writes != want {
			t.Errorf("%s: %d writes counted, want %d", name, log.writes, want)
		}
	}
}

func TestDeadLettersAreSeen(t *testing.T) {
	w, log := newWatched(t)
	w.onBus(servicebus.Event{Kind: servicebus.EventCompleted, MessageID: "a"})
	w.onBus(servicebus.Event{Kind: servicebus.EventDeadLettered, MessageID: "b", Reason: "MaxDeliveryCountExceeded"})
	if len(log.violations) != 1 || !w.completed("a") || w.completed("b") {
		t.Errorf("violations %v", log.violations)
	}
}

// TestWanted: what a table must hold in the end; nva-a is preferred to nva-b, that to nva-c.
func TestWanted(t *testing.T) {
	a, b := "10.0.0.4", "10.0.0.5"
	for _, tt := range []struct {
		announced, dead string
		silence         config.Silence
		want            []string
	}{
		{"", "", config.SilenceDown, nil},
		{"abc", "", config.SilenceDown, []string{a}},
		{"bc", "", config.SilenceDown, []string{b}},
		{"abc", "a", config.SilenceDown, []string{b}},
		{"abc", "a", config.SilenceHold, []string{b, a}},
		{"abc", "b", config.SilenceDown, []string{a}},
		{"abc", "b", config.SilenceHold, []string{a, b}},
		{"a", "a", config.SilenceDown, []string{a}},
		{"ab", "ab", config.SilenceDown, []string{a, b}},
	} {
		w := &world{silence: tt.silence}
		docs := map[string]*state.NVA{}
		for _, p := range places() {
			letter := p.name[len(p.name)-1:]
			w.nvas = append(w.nvas, &nva{name: p.name, hop: p.hop, dead: strings.Contains(tt.dead, letter)})
			docs[p.name] = announcing(t, p.name, strings.Contains(tt.announced, letter))
		}
		if got := w.wanted(targets()[0], pool()[0], docs); !slices.Equal(got, tt.want) {
			t.Errorf("announced by %q, dead %q, %s: %v, want %v", tt.announced, tt.dead, tt.silence, got, tt.want)
		}
	}
}

func announcing(t *testing.T, name string, does bool) *state.NVA {
	t.Helper()
	doc := state.NewNVA(domain, name)
	e := event.Event{Domain: domain, NVA: name, Kind: event.Snapshot, Version: event.Version{Epoch: 1, Seq: 1}, Boot: "b", Beat: 1, Chunk: event.Chunk{Count: 1}}
	if does {
		e.Announce = []route.Entry{{Prefix: pool()[0], Attrs: route.Attrs{Metric: 1}}}
	}
	if _, err := doc.Merge(e, time.Now()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestTruth: an announcement counts as known only when the document holds this very one.
func TestTruth(t *testing.T) {
	real, p := newTruth(), []netip.Prefix{pool()[0]}
	doc := announcing(t, "nva-a", true) // metric 1
	real.learn("nva-a", p)
	past, now := time.Now(), time.Now().Add(time.Second)
	if got := real.keeper(p[0], []string{"nva-a"}, now); got != "" {
		t.Error("known before any document said so")
	}
	real.saw("nva-a", doc, past)
	if got := real.keeper(p[0], []string{"nva-a"}, now); got != "nva-a" {
		t.Error("not known although the document says so")
	}
	if got := real.keeper(p[0], []string{"nva-b"}, now); got != "" {
		t.Error("an NVA counts that feeds another target")
	}
	if err := real.matches("nva-a", doc); err != nil {
		t.Error(err)
	}
	real.lose("nva-a", p)
	real.learn("nva-a", p) // metric 2
	real.saw("nva-a", doc, past)
	if got := real.keeper(p[0], []string{"nva-a"}, now); got != "" {
		t.Error("known by a document that holds an older announcement")
	}
	if err := real.matches("nva-a", doc); err == nil {
		t.Error("the document matches with an older metric")
	}
}

func TestLastLine(t *testing.T) {
	r := result{faults: map[string]int{"b": 2, "a": 1}, writes: 5, violations: []string{"x"}, converged: 1500 * time.Millisecond}
	if got, want := r.String(), "chaos: 3 faults (1 a, 2 b), 5 writes, 1 violations, converged in 1.5 s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestProcessesDoNotOutliveTheirGroup: what a killed program has started lives on until the group ends, and not longer.
func TestProcessesDoNotOutliveTheirGroup(t *testing.T) {
	var log tail
	p, err := startProcess("parent", &log, os.Environ(), (*exec.Cmd).Start, "sh", "-c", "sleep 600 & wait")
	if err != nil {
		t.Fatal(err)
	}
	child := 0
	if err = until(t.Context(), time.Millisecond, func() error {
		if child = p.child(); child == 0 {
			return fmt.Errorf("no child yet")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err = p.signal(9); err != nil {
		t.Fatal(err)
	}
	if err = until(t.Context(), time.Millisecond, func() error {
		if p.alive() {
			return fmt.Errorf("it lives")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if s, ok := readStat(child); !ok || s.zombie {
		t.Error("the child died with its parent")
	}
	if err = p.end(); err != nil {
		t.Error(err)
	}
	if s, ok := readStat(child); ok && !s.zombie {
		t.Error("the child is left")
	}
}
