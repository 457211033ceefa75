package sim

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/plan"
)

// Play runs a scenario and returns it with what it shows, in lines that begin with "| ". Such lines in the text are replaced; so a
// scenario is its own expectation.
func Play(text string) (string, error) {
	s := &stage{setup: Setup{HoldDown: 30 * time.Second, WritePrice: 5, WriteCap: 30 * time.Second}, habits: Habits{FenceMoves: true, Text: true, Snapshot: 2 * time.Minute}}
	defer s.close()
	var out strings.Builder
	for n, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, "|") {
			continue
		}
		out.WriteString(line + "\n")
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		shown, err := s.do(words)
		if err != nil {
			return "", fmt.Errorf("line %d: %q: %w", n+1, line, err)
		}
		for _, l := range shown {
			out.WriteString(strings.TrimRight("| "+l, " ") + "\n")
		}
	}
	return out.String(), nil
}

// stage is a world under the direction of a text. The world is built when the first thing happens in it.
type stage struct {
	setup  Setup
	habits Habits
	w      *World
	story  []string
	shown  int // lines of the story
	seen   bool
}

func (s *stage) close() {
	if s.w != nil {
		s.w.close()
	}
}

// world builds the world.
func (s *stage) world() *World {
	if s.w == nil {
		s.w = newWorld(s.setup, s.habits, &luck{off: true}, nil)
		s.w.story = &s.story
	}
	return s.w
}

// errWords is the error for a line that says nothing known.
var errWords = errors.New("nobody knows what this means; see sim/testdata/README.md")

// do carries out one line.
func (s *stage) do(words []string) (shown []string, err error) {
	defer func() {
		if p := recover(); p != nil {
			if bad, ok := p.(badWord); ok {
				err = bad
				return
			}
			panic(p)
		}
	}()
	if s.w == nil && s.build(words) {
		return nil, nil
	}
	w := s.world()
	r := reader{words}
	first := r.word()
	switch n := w.nva(first); {
	case n != nil:
		err = n.direct(r.rest())
	default:
		shown, err = s.direct(first, &r)
	}
	w.runUntil(w.now)
	if w.violation != nil && !s.seen {
		s.seen = true
		shown = append(shown, "VIOLATED "+w.violation.Error())
	}
	return shown, err
}

// build reads the lines that describe the world; they come first.
func (s *stage) build(words []string) bool {
	r := reader{words}
	switch r.word() {
	case "nva":
		n := NVASetup{Name: r.word(), Hop: netip.MustParseAddr(r.word()), Preference: 100}
		for r.more() {
			switch r.word() {
			case "preference":
				n.Preference = r.number()
			case "most":
				n.Most = r.number()
			case "allow":
				n.Allow = append(n.Allow, r.prefix())
			}
		}
		if n.Allow == nil {
			n.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}
		s.setup.NVAs = append(s.setup.NVAs, n)
	case "table":
		t := TableSetup{Name: r.word()}
		for r.more() {
			switch r.word() {
			case "limit":
				t.Limit = r.number()
			case "apply":
				t.Apply = r.word()
			case "nvas":
				t.NVAs = r.rest()
				r.words = nil
			}
		}
		s.setup.Tables = append(s.setup.Tables, t)
	case "routeserver":
		h := HubSetup{Name: r.word()}
		r.expect("peers")
		for r.more() && r.words[0] != "most" {
			h.Peers = append(h.Peers, PeerSetup{r.word(), uint32(65001 + len(h.Peers))}) //nolint:gosec // few
		}
		if r.more() {
			r.expect("most")
			h.Most = r.number()
		}
		s.setup.Hubs = append(s.setup.Hubs, h)
	case "range":
		p := r.prefix()
		r.expect("via")
		s.setup.Ranges = append(s.setup.Ranges, RangeSetup{p, r.word()})
	case "silence":
		s.setup.Hold = r.word() == "hold"
	case "hold-down":
		s.setup.HoldDown = r.duration()
	case "write-price":
		s.setup.WritePrice = float64(r.number())
	case "guard":
		s.setup.MinRemoved = r.number()
	case "witnesses":
		s.setup.Witness = true
	case "damping":
		s.setup.Damping = true
	case "azure":
		return s.azure(strings.Join(r.rest(), " "))
	default:
		return false
	}
	return true
}

// azure reads what the documentation of Azure leaves open.
func (s *stage) azure(habit string) bool {
	switch habit {
	case "keeps the ETag of unchanged content":
		s.habits.FenceMoves = false
	case "shows a write at the end of its operation":
		s.habits.VisibleLate = true
	case "drops duplicate messages":
		s.habits.Dedup = true
	case "takes small messages only":
		s.habits.MaxBytes = 1250
	default:
		return false
	}
	return true
}

// direct carries out what is not about an NVA.
func (s *stage) direct(first string, r *reader) ([]string, error) {
	w := s.w
	switch first {
	case "advance":
		w.advance(r.duration())
	case "stabilize":
		w.stabilize()
		if w.violation == nil {
			w.checkRest()
		}
		w.luck.off = true
	case "replay":
		before := w.counts.PUTs
		w.replay()
		return []string{fmt.Sprintf("%d writes", w.counts.PUTs-before)}, nil
	case "sweep":
		w.sweepNow()
	case "bus":
		if r.more() && r.words[0] == "loses" { // bus loses next
			w.troubles.losses++
			return nil, nil
		}
		if r.more() && r.words[0] == "delays" { // bus delays next 20s [and 5s …]
			r.word()
			for _, word := range r.rest() {
				if word != "next" && word != "and" {
					w.troubles.delays = append(w.troubles.delays, duration(word))
				}
			}
			return nil, nil
		}
		if r.more() && r.words[0] == "delivers" { // bus delivers KIND SUBJECT again
			r.word()
			return nil, w.deliverAgain(r.word(), r.word())
		}
		w.busDown(r.after("down"))
	case "store":
		w.storeDown(r.after("down"))
	case "show":
		return s.show(r)
	case "arm":
		return nil, w.directARM(strings.Join(r.rest(), " "))
	case "third":
		return nil, w.directThirdParty(r)
	case "operator":
		return nil, w.directOperator(strings.Join(r.rest(), " "))
	case "functions":
		w.restartFunctions()
	case "next":
		return nil, w.accident(r.word(), strings.Join(r.rest(), " "))
	default:
		return nil, errWords
	}
	return nil, nil
}

// direct carries out what an NVA does.
func (n *nva) direct(words []string) error {
	r := reader{words}
	switch r.word() {
	case "up":
		n.boot()
	case "announces":
		var routes []netip.Prefix
		metric := 10
		for r.more() {
			if r.words[0] == "metric" {
				r.word()
				metric = r.number()
				continue
			}
			routes = append(routes, r.prefix())
		}
		for _, p := range routes {
			n.announce(p, uint32(metric))
		}
	case "withdraws":
		for r.more() {
			n.withdraw(r.prefix())
		}
	default:
		return n.directLife(strings.Join(words, " "))
	}
	return nil
}

// directLife carries out what becomes of an NVA and its agent.
func (n *nva) directLife(what string) error {
	span, timed := strings.CutPrefix(what, "cut off ")
	late, clock := strings.CutPrefix(what, "clock behind ")
	switch {
	case timed:
		n.isolate(duration(span))
	case clock:
		n.behind = duration(late)
	case strings.HasPrefix(what, "no longer hears "):
		n.w.cutPath(strings.TrimPrefix(what, "no longer hears "), n.name, true)
	case strings.HasPrefix(what, "hears "):
		n.w.cutPath(strings.TrimPrefix(what, "hears "), n.name, false)
	case what == "loses its data plane":
		n.darken(true)
	case what == "regains its data plane":
		n.darken(false)
	case strings.HasPrefix(what, "is unfit: "):
		n.fail(strings.TrimPrefix(what, "is unfit: "))
	case what == "is fit again":
		n.fail("")
	case strings.HasPrefix(what, "is announced to "):
		n.maintain("Azure will " + strings.TrimPrefix(what, "is announced to ") + " it")
	case what == "is through with it":
		n.maintain("")
	case what == "loses its daemon":
		n.orphan(true)
	case what == "finds its daemon":
		n.orphan(false)
	case what == "dies":
		n.die()
	case what == "drains":
		n.drain(0)
	case what == "agent restarts":
		n.restart(time.Second)
	case what == "agent killed":
		n.w.tell(n.name, "its agent crashes")
		n.stopAgent()
	case what == "agent starts":
		n.revive()
	case what == "loses its epoch file":
		n.epoch = 0
	case what == "stops its BGP":
		n.stopBGP()
	case what == "starts its BGP":
		n.startBGP()
	case what == "cloned":
		n.startClone(netip.MustParsePrefix("10.200.0.0/16"))
	case what == "clone stops":
		n.stopClone()
	default:
		return errWords
	}
	return nil
}

// directARM carries out what Azure Resource Manager does.
func (w *World) directARM(what string) error {
	if answers, ok := strings.CutPrefix(what, "next put: "); ok {
		for a := range strings.SplitSeq(answers, ", ") {
			fate := slices.Index([]string{"succeeds", "fails and changes nothing", "fails and is done all the same", "is superseded", "has an end that nobody learns"}, a)
			switch {
			case fate >= 0:
				w.troubles.fates = append(w.troubles.fates, operationFate(fate))
			case slices.Contains([]string{"412", "429", "busy", "500", "403"}, a):
				w.troubles.next = append(w.troubles.next, a)
			default:
				return errWords
			}
		}
		return nil
	}
	if fates, ok := strings.CutPrefix(what, "next peer operation: "); ok {
		for f := range strings.SplitSeq(fates, ", ") {
			fate := slices.Index([]string{"succeeds", "fails", "has an end that nobody learns"}, f)
			if fate < 0 {
				return errWords
			}
			w.troubles.hubFates = append(w.troubles.hubFates, []operationFate{succeeds, failsUndone, endNeverLearned}[fate])
		}
		return nil
	}
	for _, t := range []struct {
		verb string
		do   func(time.Duration)
	}{
		{"throttles ", w.throttle},
		{"denies ", func(d time.Duration) { w.troubles.denied = w.now.Add(d) }},
		{"down ", func(d time.Duration) {
			for _, table := range w.tables {
				table.outage(d)
			}
		}},
	} {
		if span, ok := strings.CutPrefix(what, t.verb); ok {
			t.do(duration(span))
			return nil
		}
	}
	return errWords
}

// directThirdParty edits a table: third party TABLE adds PREFIX as NAME [via HOP] | removes PREFIX | sends PREFIX to HOP | drops PREFIX.
func (w *World) directThirdParty(r *reader) error {
	r.expect("party")
	name := r.word()
	if h := w.hub(name); h != nil {
		return h.directThirdParty(r)
	}
	t := w.table(name)
	if t == nil {
		return errWords
	}
	verb, p := r.word(), r.prefix()
	switch verb {
	case "adds":
		r.expect("as")
		udrOf := plan.NewRoute(r.word(), p.String(), "None", netip.Addr{})
		if r.more() {
			r.expect("via")
			udrOf.Type, udrOf.NextHops = plan.VirtualAppliance, nextHop(r.word())
		}
		t.edit("adds "+p.String(), func(routes []udr) []udr { return append(routes, udr{Route: udrOf}) })
	case "removes":
		t.foreignEdit(p, 2)
	case "sends":
		t.foreignEdit(p, 3)
	default:
		return errWords
	}
	return nil
}

// directThirdParty edits a Route Server: third party RS makes peer NAME ADDRESS ASN | removes peer NAME.
func (h *hub) directThirdParty(r *reader) error {
	verb := r.word()
	r.expect("peer")
	switch name := r.word(); verb {
	case "makes":
		h.theirs(name, netip.MustParseAddr(r.word()), uint32(r.number())) //nolint:gosec // an AS number
	case "removes":
		h.drops(name)
	default:
		return errWords
	}
	return nil
}

// directOperator edits the domain file, or gives an order.
func (w *World) directOperator(what string) error {
	if given, err := w.directOrder(strings.Fields(what)); given {
		return err
	}
	name, prefers := strings.CutPrefix(what, "prefers ")
	switch {
	case prefers:
		w.editDomain(name)
	case what == "takes the last peer out":
		w.editPeers(0)
	case what == "changes the AS number of the last peer":
		w.editPeers(1)
	case what == "uploads a broken file":
		w.upload("domain: " + domain + "\nnvas: none\n")
	case what == "repairs the file":
		w.upload(w.file)
	default:
		return errWords
	}
	return nil
}

// directOrder gives an order: operator drains|resumes NVA, pauses|unpauses|approves|overrides TARGET, repeats the last order.
func (w *World) directOrder(words []string) (given bool, err error) {
	if strings.Join(words, " ") == "repeats the last order" {
		w.again(w.words[len(w.words)-1])
		return true, nil
	}
	if len(words) != 2 {
		return false, nil
	}
	for _, kind := range order.Kinds() {
		if words[0] != kind.String()+"s" {
			continue
		}
		switch of := words[1]; {
		case kind.OfNVA() && w.nva(of) == nil, !kind.OfNVA() && w.table(of) == nil && w.hub(of) == nil:
			return true, errWords
		case kind.OfPlan():
			w.approve(kind, of, 0)
		default:
			w.say(w.newOrder(kind, of))
		}
		return true, nil
	}
	return false, nil
}

// accident notes what becomes of a request: next FUNCTION dies before|dies after|fails|gets no answer to|stands still DURATION before REQUEST.
func (w *World) accident(function, what string) error {
	for _, o := range []struct {
		verb string
		fate fate
	}{{"dies before ", fatal}, {"dies after ", fatalAfter}, {"fails ", lost}, {"gets no answer to ", unanswered}} {
		if request, ok := strings.CutPrefix(what, o.verb); ok {
			w.troubles.accidents = append(w.troubles.accidents, accident{function: function, request: request, fate: o.fate})
			return nil
		}
	}
	if rest, ok := strings.CutPrefix(what, "stands still "); ok {
		span, request, _ := strings.Cut(rest, " before ")
		w.troubles.accidents = append(w.troubles.accidents, accident{function: function, request: request, wait: duration(span)})
		return nil
	}
	if what == "loses its lock" {
		w.troubles.locks = append(w.troubles.locks, function)
		return nil
	}
	return errWords
}

// show shows the part of the world that is named.
func (s *stage) show(r *reader) ([]string, error) {
	w := s.w
	switch what := r.word(); what {
	case "table":
		t := w.tables[0]
		if r.more() {
			t = w.table(r.word())
		}
		return w.showTable(t), nil
	case "routeserver":
		return w.hub(r.word()).show(), nil
	case "nva":
		return w.showNVA(r.word()), nil
	case "target":
		name := w.tables[0].name
		if r.more() {
			name = r.word()
		}
		return w.showTarget(name), nil
	case "writes", "story":
		lines := s.story[s.shown:]
		s.shown = len(s.story)
		if what == "writes" {
			lines = slices.DeleteFunc(slices.Clone(lines), func(l string) bool {
				return !strings.Contains(l, "WRITES") && !strings.Contains(l, "BEGINS") && !strings.Contains(l, "writes the same content") && !strings.Contains(l, "the write is refused")
			})
		}
		if len(lines) == 0 {
			lines = []string{"none"}
		}
		return lines, nil
	case "counts":
		return []string{fmt.Sprintf("%d writes sent, %d applied, of which %d fences; %d messages parked, %d dead", w.counts.PUTs, w.counts.Applied, w.counts.Fences, w.parked, w.events.dead+w.wakes.dead)}, nil
	}
	return nil, errWords
}

func (w *World) showTable(t *table) []string {
	var out []string
	for _, r := range t.routes {
		hop := string(r.Type)
		if !r.NextHops.Empty() {
			hop = w.via(r.NextHops.First())
		}
		owner := "theirs"
		if r.ours {
			owner = "ours"
		}
		out = append(out, fmt.Sprintf("%-18s %-8s %s (%s)", r.Address, hop, r.Name, owner))
	}
	slices.Sort(out)
	if out == nil {
		out = []string{"empty"}
	}
	return out
}

// show lists the peers, with how many routes each instance has learned from who has the address.
func (h *hub) show() []string {
	out := []string{}
	for _, p := range h.peers {
		owner := "theirs"
		if p.ours {
			owner = "ours"
		}
		n := h.w.setup.hop(p.Address).Name
		out = append(out, fmt.Sprintf("%-18s %s AS %d, %s (%s): %d and %d routes", p.Name, p.Address, p.ASN, p.State, owner, len(h.learned[0][n]), len(h.learned[1][n])))
	}
	if len(out) == 0 {
		out = append(out, "no peers")
	}
	return out
}

func (w *World) showNVA(name string) []string {
	doc := w.document(name)
	if doc == nil {
		return []string{"never heard"}
	}
	missing, differs := doc.Gap()
	line := fmt.Sprintf("revision %d: silent %v, draining %v, %d prefixes", doc.Revision, doc.Silent(), doc.Draining(), len(doc.RIB()))
	if missing > 0 || differs {
		line += fmt.Sprintf(", a gap: %d events missing, RIB differs %v", missing, differs)
	}
	switch c := doc.Clone; {
	case c == nil:
	case c.Epoch == doc.Epoch:
		line += ", a second agent is refused"
	default:
		line += ", an agent of an older epoch speaks too"
	}
	return []string{line}
}

func (w *World) showTarget(name string) []string {
	doc := w.targetDocument(name)
	out := []string{fmt.Sprintf("%s: %d routes, %d intents, %d names owned", doc.Result.Outcome, doc.Result.Routes, len(doc.Intents), len(doc.Owned))}
	if doc.Result.Message != "" {
		out = append(out, doc.Result.Message)
	}
	for _, list := range [][]string{doc.Result.Blocked, doc.Result.Refused, doc.Result.Warnings} {
		out = append(out, list...)
	}
	if p := doc.Proposal; p != nil {
		for _, c := range proposed(p) {
			out = append(out, "plan "+p.Plan+": "+c)
		}
	}
	if a := doc.Approval; a.ID != "" {
		out = append(out, "approved plan "+a.Plan+": "+cmp.Or(a.End, "open"))
	}
	return out
}

// reader reads the words of a line; a word that is not what it must be ends the scenario with badWord.
type reader struct{ words []string }

type badWord struct{ error }

func (r *reader) more() bool { return len(r.words) > 0 }

func (r *reader) rest() []string { return r.words }

func (r *reader) word() string {
	if len(r.words) == 0 {
		panic(badWord{errors.New("a word is missing at the end")})
	}
	first := r.words[0]
	r.words = r.words[1:]
	return first
}

func (r *reader) expect(want string) {
	if got := r.word(); got != want {
		panic(badWord{fmt.Errorf("found %q, want %q", got, want)})
	}
}

func (r *reader) number() int {
	n, err := strconv.Atoi(r.word())
	if err != nil {
		panic(badWord{err})
	}
	return n
}

func (r *reader) prefix() netip.Prefix {
	p, err := netip.ParsePrefix(r.word())
	if err != nil {
		panic(badWord{err})
	}
	return p
}

func (r *reader) duration() time.Duration { return duration(r.word()) }

func (r *reader) after(word string) time.Duration {
	r.expect(word)
	return r.duration()
}

func duration(s string) time.Duration {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil {
		panic(badWord{err})
	}
	return d
}
