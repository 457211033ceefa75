package sim

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/functions/reconcile"
	"github.com/pointsman/pointsman/functions/sweep"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/located"
)

// domain is the name of the only domain of a world.
const domain = "hub"

// Setup is what the operator has built: the content of the domain file.
type Setup struct {
	Hold       bool // silence: hold, else down
	HoldDown   time.Duration
	Damping    bool // of prefixes that come and go; it decays within seconds
	Witness    bool // the agents watch each other
	WritePrice float64
	WriteCap   time.Duration
	MinRemoved int // the guard against removals, of more than half of the routes
	NVAs       []NVASetup
	Tables     []TableSetup
	Hubs       []HubSetup
	Ranges     []RangeSetup // the first that holds a prefix says by which way it goes; none: udr
}

// NVASetup is one NVA of the domain file.
type NVASetup struct {
	Name       string
	Hop        netip.Addr
	Preference int
	Allow      []netip.Prefix // and whatever is inside
	Most       int            // prefixes; 0: 1,000
}

// TableSetup is one target of the domain file.
type TableSetup struct {
	Name  string
	NVAs  []string // empty: all
	Limit int      // routes; 0: 1,000
	Apply string   // auto (empty), approve, observe
}

// yaml renders the domain file.
func (s Setup) yaml() string {
	var b strings.Builder
	silence := "down"
	if s.Hold {
		silence = "hold"
	}
	fmt.Fprintf(&b, "domain: %s\npolicy:\n  silence: %s\n  holdDown: %s\n  writePrice: %g\n  writeCap: %s\n", domain, silence, s.HoldDown, s.WritePrice, s.WriteCap)
	halfLife := "0s"
	if s.Damping {
		halfLife = "10s"
	}
	fmt.Fprintf(&b, "  damping: {halfLife: %s}\n", halfLife)
	fmt.Fprintf(&b, "guards:\n  minRemoved: %d\nnvas:\n", s.minRemoved())
	for _, n := range s.NVAs {
		fmt.Fprintf(&b, "  - name: %s\n    nextHops: [%s]\n    preference: %d\n    maxPrefixes: %d\n    allow:\n", n.Name, n.Hop, n.Preference, n.most())
		for _, p := range n.Allow {
			fmt.Fprintf(&b, "      - %s", p)
			if p.Bits() > 0 { // the default route is allowed by name only
				b.WriteString(" le 32")
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("targets:\n")
	for _, t := range s.Tables {
		fmt.Fprintf(&b, "  - name: %s\n    routeTable: %s\n    limit: %d\n", t.Name, tableID(t.Name), t.limit())
		if t.Apply != "" {
			fmt.Fprintf(&b, "    apply: %s\n", t.Apply)
		}
		if len(t.NVAs) > 0 {
			fmt.Fprintf(&b, "    nvas: [%s]\n", strings.Join(t.NVAs, ", "))
		}
	}
	if len(s.Hubs) > 0 {
		b.WriteString("routeServers:\n")
	}
	for _, h := range s.Hubs {
		b.WriteString(h.yaml())
	}
	if len(s.Ranges) > 0 {
		b.WriteString("ranges:\n")
	}
	for _, r := range s.Ranges {
		within := " le 32"
		if r.Prefix.Bits() == 0 { // the default route is named by itself
			within = ""
		}
		fmt.Fprintf(&b, "  - {prefixes: [%s%s], via: %s}\n", r.Prefix, within, r.Via)
	}
	return b.String()
}

func (s Setup) minRemoved() int {
	if s.MinRemoved == 0 {
		return 10
	}
	return s.MinRemoved
}

func (n NVASetup) most() int {
	if n.Most == 0 {
		return 1000
	}
	return n.Most
}

func (n NVASetup) allows(p netip.Prefix) bool {
	return slices.ContainsFunc(n.Allow, func(a netip.Prefix) bool {
		return a == p || a.Bits() > 0 && a.Bits() <= p.Bits() && a.Contains(p.Addr())
	})
}

func (t TableSetup) limit() int {
	if t.Limit == 0 {
		return 1000
	}
	return t.Limit
}

func (t TableSetup) fedBy(nva string) bool { return len(t.NVAs) == 0 || slices.Contains(t.NVAs, nva) }

// hop returns the NVA with that address.
func (s Setup) hop(a netip.Addr) NVASetup {
	i := slices.IndexFunc(s.NVAs, func(n NVASetup) bool { return n.Hop == a })
	if i < 0 {
		return NVASetup{}
	}
	return s.NVAs[i]
}

func (s Setup) nva(name string) NVASetup {
	i := slices.IndexFunc(s.NVAs, func(n NVASetup) bool { return n.Name == name })
	if i < 0 {
		return NVASetup{}
	}
	return s.NVAs[i]
}

func tableID(name string) string {
	return "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/routeTables/" + name
}

// Habits are properties of Azure that the documentation leaves open, and how nasty the world is.
type Habits struct {
	Faults      int           // per mille of all calls that go wrong
	FenceMoves  bool          // a PUT of unchanged content moves the ETag
	VisibleLate bool          // a PUT is visible when its operation ends, not when it is accepted
	Dedup       bool          // the queues drop a message whose id they have seen in the last minutes
	MaxBytes    int           // of one event; 0: no chunks
	Instances   int           // of the function app, which share the calls; 0: one
	Snapshot    time.Duration // between two of an agent's snapshots
	Text        bool          // the store holds the documents as text, as Azure's does
}

// start is the first instant of every world.
func start() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC) }

// World is the whole: what the product talks to, and the product's functions and agents in it.
type World struct {
	setup  Setup
	setups []Setup // that were in force before
	file   string  // the domain file of the setup
	habits Habits
	luck   *luck
	now    time.Time
	until  time.Time // up to when things happen
	agenda agenda

	events, wakes *queue
	blobs         map[string]*blob
	tables        []*table
	hubs          []*hub
	declared      HubSetup // the first of them as it was in the beginning
	nvas          []*nva
	functions     *functions
	own           bool    // the functions are this world's own
	calls         []*call // that run
	runs, sweeps  int
	orders        int
	rates         map[string]rate // by target
	etags, parked int

	words []*word          // all that operators have said
	spent map[string]*blob // by the id of an approval: from this document of its target on it is used up

	cuts      map[path]bool // ways between NVAs that are closed
	troubles  troubles
	denied    bool // a write was denied: that is tried again by the sweep only
	unseen    bool // an NVA's BGP came back, and no event tells of it
	edited    bool // the domain file was changed: what was true of the old one need not hold
	story     *[]string
	violation *Violation
	steps     int
	counts    Counts
}

// troubles are outages that are on now.
type troubles struct {
	bus, store, arm, denied time.Time // until
	next                    []string  // what the next PUTs get, in scenarios
	fates                   []operationFate
	hubFates                []operationFate // of the next operations on peers
	accidents               []accident
	locks                   []string        // functions whose next call loses its lock
	delays                  []time.Duration // of the next events, in scenarios
	losses                  int             // of the next events, in scenarios
}

// Counts is what happened in a world.
type Counts struct {
	Steps, Calls, Crashes, Events, PUTs, Applied, Fences, Stale, PeerSteps int
}

// Violation is an invariant that did not hold.
type Violation struct {
	Invariant string // I1 to I7, writes, panic
	Text      string
}

// Error implements error.
func (v *Violation) Error() string { return v.Invariant + ": " + v.Text }

// violate records the first violation; the world stops.
func (w *World) violate(invariant, format string, args ...any) {
	if w.violation == nil {
		w.violation = &Violation{invariant, fmt.Sprintf(format, args...)}
		w.tell("!", "%s violated: %s", invariant, w.violation.Text)
	}
}

// functions are the product's functions over one world after the other. They outlive a world because reading a domain file costs as much as
// a good part of a history: the store has met most files before, as that of a function app which has run for a while has.
type functions struct {
	world *World
	etags uint64       // of the store's values
	clock time.Time    // what was read last
	idle  []*coroutine // for calls to come

	codecs  documents.Codecs
	files   map[string]domainFile // by their text; they are few
	archive archive               // of this world, unless the store holds text

	running    []*instance // in this world
	cold, used []*instance // that have not been in it yet, that have
}

// instance is one process of the function app: what it keeps in memory the other does not know.
type instance struct {
	store     *documents.Store
	ingest    *ingest.Ingest
	reconcile *reconcile.Reconcile
	sweep     *sweep.Sweep
}

func newFunctions(h Habits) *functions {
	f := &functions{codecs: documents.JSON(), files: map[string]domainFile{}}
	if !h.Text {
		f.codecs = f.archive.codecs()
	}
	f.codecs.Domain = f.parse
	return f
}

// domainFile is what a domain file says.
type domainFile struct {
	config   *config.Domain
	problems located.Problems
}

// parse reads a domain file, each text once for all processes and worlds.
func (f *functions) parse(name string, text []byte) (*config.Domain, located.Problems) {
	file, known := f.files[string(text)]
	if !known {
		file.config, file.problems = config.Parse(name, text)
		f.files[string(text)] = file
	}
	return file.config, file.problems
}

// restart puts processes in the place of those that ran: they know nothing of this world but the domain file.
func (f *functions) restart(count int) {
	f.running = f.running[:0]
	for range count {
		last := len(f.cold) - 1
		if last < 0 {
			f.cold, last = append(f.cold, f.newInstance()), 0
		}
		i := f.cold[last]
		f.cold = f.cold[:last]
		f.running, f.used = append(f.running, i), append(f.used, i)
		if _, err := i.store.Domain(context.Background(), domain); err != nil {
			panic("sim: " + err.Error())
		}
	}
}

// begin gives the functions another world: what they have kept of earlier ones has other ETags, so they know nothing of it.
func (f *functions) begin(w *World) {
	f.world, f.clock = w, time.Time{}
	f.cold, f.used = append(f.cold, f.used...), f.used[:0]
}

// now is the functions' clock: no two readings are the same, as with a real one.
func (f *functions) now() time.Time {
	f.clock = f.clock.Add(time.Nanosecond)
	if f.clock.Before(f.world.now) {
		f.clock = f.world.now
	}
	return f.clock
}

// newInstance wires the product as cmd/pointsman-handler does.
func (f *functions) newInstance() *instance {
	now := f.now
	log := slog.New(slog.DiscardHandler)
	p := ports{f}
	store := documents.NewStoreOf(f.codecs, p, 1)
	i := &instance{store: store}
	i.ingest = &ingest.Ingest{Store: store, Wakes: p, Lot: p, Now: now, Log: log, Patience: 20 * time.Second, Pause: p.pause}
	i.reconcile = &reconcile.Reconcile{
		Store: store, Tables: p, Wakes: p, Peers: hubPort{f}, Learned: hubPort{f}, Now: now, Lease: 30 * time.Second, Log: log,
		NewRun: func() string { f.world.runs++; return "run-" + strconv.Itoa(f.world.runs) },
	}
	i.sweep = &sweep.Sweep{Store: store, Wakes: p, Now: now, Spread: 5 * time.Second, Log: log}
	return i
}

// instance returns the one that gets the call of that number.
func (w *World) instance(call uint64) *instance {
	return w.functions.running[call%uint64(len(w.functions.running))]
}

// newWorld returns a world in which nothing has happened yet. f must have been made from the same habits, or be nil.
func newWorld(s Setup, h Habits, l *luck, f *functions) *World {
	own := f == nil
	if own {
		f = newFunctions(h)
	}
	w := &World{own: own, setup: s, habits: h, luck: l, now: start(), blobs: map[string]*blob{}, functions: f}
	f.begin(w)
	w.events, w.wakes = newQueue(w, "route-events"), newQueue(w, "reconcile")
	for _, t := range s.Tables {
		w.tables = append(w.tables, newTable(w, t.Name))
	}
	if len(s.Hubs) > 0 {
		w.declared = s.Hubs[0]
	}
	for _, h := range s.Hubs {
		w.hubs = append(w.hubs, newHub(w, h.Name))
	}
	for _, n := range s.NVAs {
		w.nvas = append(w.nvas, newNVA(w, n.Name))
	}
	w.file = s.yaml()
	w.blobs["accepted/"+domain+".yaml"] = &blob{data: []byte(w.file), etag: "first"}
	w.upload(w.file)
	f.restart(max(h.Instances, 1))
	return w
}

// upload replaces the domain file. The ETag follows from the content.
func (w *World) upload(text string) {
	w.blobs["domains/"+domain+".yaml"] = &blob{data: []byte(text), etag: strconv.FormatUint(hash(text), 16)}
}

// table returns the table of that name.
func (w *World) table(name string) *table {
	i := slices.IndexFunc(w.tables, func(t *table) bool { return t.name == name || strings.EqualFold(t.id, name) })
	if i < 0 {
		return nil
	}
	return w.tables[i]
}

// nva returns the NVA of that name.
func (w *World) nva(name string) *nva {
	i := slices.IndexFunc(w.nvas, func(n *nva) bool { return n.name == name })
	if i < 0 {
		return nil
	}
	return w.nvas[i]
}

// after puts something on the agenda.
func (w *World) after(d time.Duration, do func()) { w.agenda.put(w.now.Add(d), do) }

// skip lets d pass at once, as one step, if nothing is due meanwhile.
func (w *World) skip(d time.Duration) bool {
	at := w.now.Add(d)
	if w.violation != nil || at.After(w.until) || w.agenda.due(at) {
		return false
	}
	w.now = at
	w.steps++
	w.counts.Steps++
	return true
}

// runUntil lets everything happen that is due until t.
func (w *World) runUntil(t time.Time) {
	w.until = t
	for w.violation == nil {
		e, ok := w.agenda.take(t)
		if !ok {
			break
		}
		if at := time.Unix(0, e.at).UTC(); at.After(w.now) {
			w.now = at
		}
		w.steps++
		w.counts.Steps++
		e.do()
	}
	if w.now.Before(t) {
		w.now = t
	}
}

// advance lets d pass.
func (w *World) advance(d time.Duration) { w.runUntil(w.now.Add(d)) }

// close ends the coroutines.
func (w *World) close() {
	for _, i := range slices.Clone(w.calls) {
		i.kill()
	}
	w.functions.archive.empty()
	if w.own {
		w.functions.close()
	}
}

// tell adds a line to the story, if there is one.
func (w *World) tell(who, format string, args ...any) {
	if w.story != nil {
		*w.story = append(*w.story, fmt.Sprintf("%9.3f  %-12s ", w.now.Sub(start()).Seconds(), who)+fmt.Sprintf(format, args...))
	}
}

// told reports whether somebody listens: then it is worth putting words together.
func (w *World) told() bool { return w.story != nil }
