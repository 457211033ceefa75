package sim

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

// ports is the world as the functions see it: documents.Blobs, the senders of wakes, the lot of parked messages, the route tables. A
// context without a call in it is served at once.
type ports struct{ f *functions }

// blob is one value of the store. It never changes: a write puts another in its place.
type blob struct {
	data []byte
	etag string
	nva  string  // whose document it is; empty: it is none
	n    uint64  // the higher, the later
	said sayings // what stands behind it
	f    *functions
	doc  *state.NVA
}

// document returns an NVA's document as the store has it, decoded when it is first looked at.
func (b *blob) document() *state.NVA {
	if b == nil {
		return nil
	}
	if b.doc == nil {
		doc, err := b.f.codecs.NVA.Decode(b.data)
		if err != nil {
			panic("sim: " + err.Error())
		}
		b.doc = doc
	}
	return b.doc
}

func (w *World) storeWorks() bool { return !w.now.Before(w.troubles.store) }

// Read implements documents.Blobs.
func (p ports) Read(ctx context.Context, name, known string) (data []byte, etag string, err error) {
	w, c, f := p.f.world, callOf(ctx), well
	if c != nil {
		if f = c.ask(toStore, "read", name); f == lost || !w.storeWorks() {
			return nil, "", c.noAnswer("read", name)
		}
	}
	b := w.blobs[name]
	if b == nil {
		return nil, "", fault.New(fault.NotFound, "no blob %s", name)
	}
	if c != nil {
		if err = c.answer(f, "read", name); err != nil {
			return nil, "", err
		}
		if b.nva != "" {
			c.documents[b.nva], c.round.read = b, true
		}
		if name == c.file {
			c.target = b
		}
	}
	if b.etag == known {
		return nil, known, nil
	}
	return b.data, b.etag, nil
}

// Write implements documents.Blobs.
func (p ports) Write(ctx context.Context, name string, data []byte, ifMatch string) (etag string, err error) {
	w, c, f := p.f.world, callOf(ctx), well
	if c != nil {
		if f = c.ask(toStore, "write", name); f == lost || !w.storeWorks() {
			c.saves(name, nil)
			return "", c.noAnswer("write", name)
		}
	}
	old := w.blobs[name]
	if w.etagOf(name) != ifMatch {
		if c != nil {
			c.saves(name, nil)
		}
		return "", fault.New(fault.Conflict, "blob %s has another ETag", name)
	}
	b := &blob{data: data, etag: p.f.newETag(), f: p.f, said: saidOf(old)}
	b.n = p.f.etags
	if c != nil && c.got != "" && strings.HasPrefix(name, "targets/") {
		c.round.decided = true // it waits, has ended, or is about to write
	}
	if nva, is := strings.CutPrefix(name, "nvas/"+domain+"/"); is {
		b.nva = strings.TrimSuffix(nva, ".json")
	}
	w.blobs[name] = b
	if c == nil {
		return b.etag, nil
	}
	b.said = c.hears(name, b.said)
	c.saves(name, b)
	return b.etag, c.answer(f, "write", name)
}

func (w *World) newETag() string {
	w.etags++
	return strconv.Itoa(w.etags)
}

// etagOf returns the ETag of a value, empty where there is none.
func (w *World) etagOf(name string) string {
	if b := w.blobs[name]; b != nil {
		return b.etag
	}
	return ""
}

// newETag never returns one twice, in whatever world: the functions keep what they have read by its ETag.
func (f *functions) newETag() string {
	f.etags++
	return "blob-" + strconv.FormatUint(f.etags, 10)
}

// List implements documents.Blobs.
func (p ports) List(ctx context.Context, prefix string) ([]string, error) {
	w := p.f.world
	if c := callOf(ctx); c != nil {
		if f := c.ask(toStore, "list", prefix); f != well || !w.storeWorks() {
			return nil, c.noAnswer("list", prefix)
		}
	}
	var names []string
	for name := range w.blobs {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Append implements documents.Blobs.
func (p ports) Append(ctx context.Context, name string, _ []byte) error {
	c := callOf(ctx)
	if f := c.ask(toStore, "append to", name); f != well || !p.f.world.storeWorks() {
		return c.noAnswer("append to", name)
	}
	return nil
}

// Send implements Wakes.
func (p ports) Send(ctx context.Context, news wake.Wake, at time.Time) error {
	w, c, id := p.f.world, callOf(ctx), news.ID()
	f := c.ask(toBus, "send wake", id)
	if f == lost || w.now.Before(w.troubles.bus) {
		return c.noAnswer("send wake", id)
	}
	if w.told() && at.After(w.now) {
		w.tell(c.who(), "asks for another look in %v (%s)", at.Sub(w.now).Round(time.Millisecond), id)
	}
	w.wakes.send(&delivery{id: id, wake: &news}, at)
	return c.answer(f, "send wake", id)
}

// Park implements ingest.Lot.
func (p ports) Park(ctx context.Context, parked ingest.Parked) error {
	c := callOf(ctx)
	if f := c.ask(toStore, "park", parked.ID); f != well || !p.f.world.storeWorks() {
		return c.noAnswer("park", parked.ID)
	}
	p.f.world.parked++
	p.f.world.tell("Ingest", "parks %s: %s", parked.ID, parked.Reason)
	return nil
}

// pause implements Ingest.Pause.
func (p ports) pause(ctx context.Context, d time.Duration) { callOf(ctx).pause(d) }

// Get implements reconcile.Tables.
func (p ports) Get(ctx context.Context, id string) (plan.Table, error) {
	w, c := p.f.world, callOf(ctx)
	t := w.table(id)
	f := c.ask(toARM, "read table", t.name)
	if f == lost || w.now.Before(t.down) {
		return plan.Table{}, c.noAnswer("read table", t.name)
	}
	if err := c.answer(f, "read table", t.name); err != nil {
		return plan.Table{}, err
	}
	switch {
	case !c.round.read: // the first reading, or that after a fence
	case c.round.decided:
		c.round = round{}
	default:
		c.round = round{decided: true}
		if c.got == t.etag {
			t.confirmed(c) // nothing to write: the table stands for what was read
		}
	}
	c.got = t.etag
	return t.read(), nil
}

// Put implements reconcile.Tables.
func (p ports) Put(ctx context.Context, read plan.Table, edit plan.Edit) error {
	c := callOf(ctx)
	return p.f.world.table(read.ID).put(c, read, edit)
}
