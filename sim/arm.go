package sim

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
)

// udr is one route of a table, and whose it is.
type udr struct {
	plan.Route
	ours bool
}

// table is one route table in Azure Resource Manager: a register with an ETag, whose writes are operations that take seconds.
type table struct {
	w      *World
	name   string
	id     string
	file   string // of the target's document
	routes []udr
	tags   string
	etag   string
	asker  asker

	failed    bool              // the last operation failed after it had changed the content: what the table shows may not be in force
	operation *operation        // in flight
	down      time.Time         // the table's service answers nothing before
	behind    map[string]uint64 // revisions of the documents behind what the table says (invariant I2)

	puts, applied, fences, foreign int
}

// operation is an accepted PUT.
type operation struct {
	fate operationFate
	do   func()
}

type operationFate uint8

const (
	succeeds        operationFate = iota
	failsUndone                   // and the table is as before
	failsDone                     // and the table is as written all the same
	superseded                    // another operation took its place
	endNeverLearned               // it succeeds, but the operation's record is lost
)

func newTable(w *World, name string) *table {
	return &table{w: w, name: name, id: tableID(name), file: targetFile(name), tags: "costCentre=42", etag: w.newETag(), behind: map[string]uint64{}, asker: asker{luck: w.luck, id: hash("table/" + name)}}
}

// content is what a PUT replaces.
type content struct {
	routes []udr
	tags   string
}

// read is the table as reconcile sees it.
func (t *table) read() plan.Table {
	out := plan.Table{ID: t.id, ETag: t.etag, Failed: t.failed, Routes: make([]plan.Route, len(t.routes)), Origin: content{t.routes, t.tags}}
	for i, r := range t.routes {
		out.Routes[i] = r.Route
	}
	return out
}

// put is one conditional PUT and the polling of its operation.
func (t *table) put(c *call, read plan.Table, edit plan.Edit) error {
	w := t.w
	c.round = round{decided: true}
	before := read.Origin.(content)
	after := content{applied(before.routes, edit), before.tags}
	c.sent = w.now
	t.checkSend(c, before, after, edit)
	f := c.ask(toARM, "write table", t.name)
	if err := t.refuses(c, f, read); err != nil {
		return err
	}
	op := &operation{fate: t.nextFate()}
	takes := time.Duration(900+t.asker.pick(6)*700) * time.Millisecond
	documents := maps.Clone(c.documents)
	write := func() {
		if edit.Empty() && !w.habits.FenceMoves {
			t.fences++
			return
		}
		t.replace(c, edit, after, documents)
	}
	t.operation = op
	switch {
	case op.fate == failsUndone:
	case w.habits.VisibleLate:
		op.do = write
	default:
		write()
	}
	w.after(takes, func() { t.finish(op) })
	if f == fatalAfter {
		panic(died{})
	}
	c.pause(takes + 100*time.Millisecond)
	err := t.told(c, f, op)
	if err == nil {
		c.covered(edit)
	}
	return err
}

// finish ends an operation.
func (t *table) finish(op *operation) {
	if t.operation != op {
		return
	}
	t.operation = nil
	if op.do != nil && op.fate != superseded {
		op.do()
	}
	if op.fate != failsUndone {
		t.failed = op.fate == failsDone
	}
}

// told is what the caller learns of its operation.
func (t *table) told(c *call, f fate, op *operation) error {
	switch op.fate {
	case failsUndone, failsDone:
		t.w.tell(c.who(), "the operation fails")
		return fault.New(fault.Transient, "the operation failed (sim)")
	case superseded:
		t.w.tell(c.who(), "the operation is superseded by another one")
		return &fault.Error{Kind: fault.Conflict, Code: "CanceledAndSupersededDueToAnotherOperation", Err: fmt.Errorf("superseded (sim)")}
	case endNeverLearned:
		t.w.tell(c.who(), "the operation's record is lost")
		return fault.New(fault.Transient, "the write was accepted, its end not seen (sim)")
	case succeeds:
	}
	return c.answer(f, "write table", t.name)
}

// nextFate is what will become of the operation that is accepted now.
func (t *table) nextFate() operationFate {
	if len(t.w.troubles.fates) > 0 {
		f := t.w.troubles.fates[0]
		t.w.troubles.fates = t.w.troubles.fates[1:]
		return f
	}
	if !t.asker.chance(5 * t.w.habits.Faults) {
		return succeeds
	}
	return operationFate(1 + t.asker.pick(4))
}

// refuses is the answer to a PUT that is not accepted.
func (t *table) refuses(c *call, f fate, read plan.Table) error {
	w := t.w
	t.puts++
	w.counts.PUTs++
	if f == lost || w.now.Before(t.down) {
		return c.noAnswer("write table", t.name)
	}
	order := ""
	if len(w.troubles.next) > 0 {
		order, w.troubles.next = w.troubles.next[0], w.troubles.next[1:]
	} else if t.asker.chance(3 * w.habits.Faults) {
		order = [...]string{"412", "busy", "429", "500"}[t.asker.pick(4)]
	}
	if w.now.Before(w.troubles.denied) {
		order = "403"
	}
	var err *fault.Error
	switch {
	case order == "403":
		w.denied = true
		err = fault.New(fault.Denied, "403 AuthorizationFailed (sim)")
		err.Code = "AuthorizationFailed"
	case order == "429" || w.now.Before(w.troubles.arm):
		err = fault.New(fault.Throttled, "429 SubscriptionRequestsThrottled (sim)")
		err.Code, err.RetryAfter = "SubscriptionRequestsThrottled", 10*time.Second
	case order == "busy" || t.operation != nil:
		err = fault.New(fault.Throttled, "429 another operation (sim)")
		err.Code, err.RetryAfter = fault.CodeBusy, 3*time.Second
	case order == "500":
		err = fault.New(fault.Transient, "500 InternalServerError (sim)")
	case order == "412" || read.ETag != t.etag:
		err = fault.New(fault.Conflict, "412 PreconditionFailedEtagMismatch: %s is not %s (sim)", read.ETag, t.etag)
	default:
		return nil
	}
	w.tell(c.who(), "the write is refused: %v", err)
	return err
}

// replace is the effect of a PUT.
func (t *table) replace(c *call, edit plan.Edit, after content, documents map[string]*blob) {
	before := content{t.routes, t.tags}
	t.routes, t.tags, t.etag = after.routes, after.tags, t.w.newETag()
	t.applied++
	t.w.counts.Applied++
	if edit.Empty() {
		t.fences++
		t.w.counts.Fences++
		t.w.tell(c.who(), "writes the same content, so that a late write of another run fails")
	} else {
		t.tellEdit(c, before, edit)
		t.checkAge(documents)
	}
	t.stands(documents)
	t.w.checkWrite(t, c, before, after, edit, documents)
}

// checkAge is invariant I2.
func (t *table) checkAge(documents map[string]*blob) {
	for _, n := range t.w.nvas {
		if revision := revisionOf(documents[n.name]); revision < t.behind[n.name] {
			t.w.counts.Stale++
			if t.w.strictAge() {
				t.w.violate("I2", "table %s was written from revision %d of %s, and stood for revision %d before", t.name, revision, n.name, t.behind[n.name])
			}
		}
	}
}

// revisionOf returns the revision of an NVA's document; 0 where there was none.
func revisionOf(b *blob) uint64 {
	if b == nil {
		return 0
	}
	return b.document().Revision
}

// confirmed notes that a call found nothing to write.
func (t *table) confirmed(c *call) {
	t.w.tell(c.who(), "finds nothing to write")
	t.stands(c.documents)
}

// stands notes which revisions the table stands for now.
func (t *table) stands(documents map[string]*blob) {
	for name, doc := range documents {
		t.behind[name] = max(t.behind[name], revisionOf(doc))
	}
}

// applied returns the routes after the edit, as azure/routetable writes them.
func applied(routes []udr, edit plan.Edit) []udr {
	out := make([]udr, 0, len(routes)+len(edit.Put))
	put := slices.Clone(edit.Put)
	for _, r := range routes {
		if i := slices.IndexFunc(put, func(p plan.Route) bool { return strings.EqualFold(p.Name, r.Name) }); i >= 0 {
			out = append(out, udr{put[i], true})
			put = slices.Delete(put, i, i+1)
			continue
		}
		if !slices.ContainsFunc(edit.Delete, func(name string) bool { return strings.EqualFold(name, r.Name) }) {
			out = append(out, r)
		}
	}
	for _, p := range put {
		out = append(out, udr{p, true})
	}
	return out
}

// tellEdit tells what a write changes.
func (t *table) tellEdit(c *call, before content, edit plan.Edit) {
	if !t.w.told() {
		return
	}
	for _, name := range edit.Delete {
		t.w.tell(c.who(), "WRITES: removes %s", name)
	}
	for _, p := range edit.Put {
		i := slices.IndexFunc(before.routes, func(r udr) bool { return strings.EqualFold(r.Name, p.Name) })
		if i < 0 {
			t.w.tell(c.who(), "WRITES: adds %s via %s", p.Address, t.w.via(p.NextHops.First()))
		} else {
			t.w.tell(c.who(), "WRITES: moves %s from %s to %s", p.Address, t.w.via(before.routes[i].NextHops.First()), t.w.via(p.NextHops.First()))
		}
	}
}

// via names an address by its NVA.
func (w *World) via(a netip.Addr) string {
	if n := w.setup.hop(a); n.Name != "" {
		return n.Name
	}
	if !a.IsValid() {
		return "no next hop"
	}
	return a.String()
}

// edit is a change by a third party. It waits for an operation in flight, or takes its place.
func (t *table) edit(what string, change func([]udr) []udr) {
	if t.operation != nil {
		if t.operation.do != nil && t.asker.chance(2*t.w.habits.Faults) {
			t.operation.fate = superseded
			t.operation = nil
		} else {
			t.w.after(time.Second, func() { t.edit(what, change) })
			return
		}
	}
	t.w.tell("third party", "%s: %s", t.name, what)
	t.routes, t.failed = change(slices.Clone(t.routes)), false
	t.etag = t.w.newETag()
	t.foreign++
}
