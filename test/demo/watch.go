package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/test/system"
)

// errWrong is wrapped by what makes the demonstration fail: a wrong result, or one that does not come.
var errWrong = errors.New("not as it should be")

// The queues of the function app.
const (
	eventQueue = "route-events"
	wakeQueue  = "reconcile"
)

// change is something that was done to an NVA, and what followed.
type change struct {
	nva    string
	urgent bool // it must reach the table at once
	death  bool // the event that follows is the dead-man switch
	slow   bool // more than a change of routes goes before the event: the start of an agent

	at       time.Time // when the kernel had it: the ip command had returned
	event    time.Time // when the bus had the event
	observed time.Time // when the agent had seen it
	made     time.Time // when the agent had gathered
	put      time.Time // when the write was accepted
	done     time.Time // when Azure said that it is in force
}

// watch listens to the bus, the handler and the route table, keeps what it hears and tells the screen.
type watch struct {
	out  *screen
	sys  *system.System
	real bool // agents and kernel routes, not recorded events

	mu        sync.Mutex
	news      chan struct{} // closed and replaced with everything that is heard
	awaited   map[string]*change
	urgent    *change   // its event is on the bus, its write is not accepted yet
	written   *change   // its write is accepted, but not in force yet
	begun     time.Time // when the write in flight was accepted
	inFlight  int
	done      time.Time // when the last write was done
	heard     map[string]bool
	count     counts
	pristine  string // what is not Pointsman's
	intact    error  // nil as long as that is untouched
	handler   tail
	host      tail
	accepted  map[string]string // next hops as of the last accepted write
	published [][]byte
}

// counts are the numbers of a step.
type counts struct{ events, wakes int }

func newWatch(out *screen) *watch {
	return &watch{out: out, news: make(chan struct{}), awaited: map[string]*change{}, heard: map[string]bool{}, accepted: map[string]string{}}
}

// attach begins to listen.
func (w *watch) attach(sys *system.System) error {
	w.sys = sys
	raw, _, _ := sys.ARM.Table(system.TableID)
	t, err := readTable(raw)
	if err != nil {
		return err
	}
	if w.pristine, err = t.unmanaged(); err != nil {
		return err
	}
	sys.Bus.Observe(w.onBus)
	writes := make(chan arm.Event, 1024)
	sys.ARM.Observe(func(e arm.Event) { writes <- e })
	go func() { // the server is locked while it tells; reading a table takes a moment
		for e := range writes {
			w.onTable(e)
		}
	}()
	return nil
}

// heardNews tells those who wait. The caller holds mu.
func (w *watch) heardNews() {
	close(w.news)
	w.news = make(chan struct{})
}

// expect announces a change that is about to be made.
func (w *watch) expect(c *change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awaited[c.nva] = c
}

// made notes when the kernel had the change.
func (w *watch) made(c *change, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.at = at
}

// onBus hears of a message. It is called by the broker, one message at a time.
func (w *watch) onBus(e servicebus.Event) {
	switch {
	case e.Entity == wakeQueue && e.Kind == servicebus.EventEnqueued:
		w.mu.Lock()
		w.count.wakes++
		w.mu.Unlock()
	case e.Entity != eventQueue:
	case strings.Contains(e.MessageID, "/beat-"):
		if e.Kind == servicebus.EventActivated {
			w.onEvent(e, event.Event{NVA: strings.Split(e.MessageID, "/")[1], Kind: event.Expired})
		}
	case e.Kind == servicebus.EventEnqueued:
		said := event.Event{NVA: strings.Split(e.MessageID, "/")[1]}
		for _, m := range w.sys.Bus.Peek(eventQueue) {
			if m.SequenceNumber != e.SequenceNumber {
				continue
			}
			if full, err := event.Decode(m.Body); err == nil {
				said = full
			}
			w.mu.Lock()
			w.published = append(w.published, m.Body)
			w.mu.Unlock()
		}
		w.onEvent(e, said)
	}
}

// onEvent hears of an agent's event that is now on the bus.
func (w *watch) onEvent(e servicebus.Event, said event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.heardNews()
	w.count.events++
	w.heard[said.NVA] = true
	l := line{at: e.At, where: said.NVA, what: "event", text: content(said), colour: cyan}
	c := w.awaited[said.NVA]
	if c != nil && c.death == (said.Kind == event.Expired) {
		delete(w.awaited, said.NVA)
		c.event, c.observed, c.made = e.At, said.Observed, said.Time
		if c.urgent {
			w.urgent = c
		}
		if w.real && !c.at.IsZero() && !c.death && !c.slow && !c.observed.IsZero() {
			seen := later(c.observed, c.at) // it sees the first of many routes before the last is set
			l.aside = fmt.Sprintf("%s after the kernel (seen %s, gathered %s, sent %s)", ms(c.event.Sub(c.at)), bare(seen.Sub(c.at)),
				bare(c.made.Sub(seen)), bare(c.event.Sub(c.made)))
		}
	}
	w.out.event(l)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// content says in a few words what an event says.
func content(e event.Event) string {
	switch e.Kind {
	case event.Snapshot:
		return fmt.Sprintf("%d announced (all it has)", len(e.Announce))
	case event.Delta:
		var parts []string
		if n := len(e.Announce); n > 0 {
			parts = append(parts, fmt.Sprintf("%d announced", n))
		}
		if n := len(e.Withdraw); n > 0 {
			parts = append(parts, fmt.Sprintf("%d withdrawn", n))
		}
		return strings.Join(parts, ", ")
	case event.Expired:
		return "silent for too long (dead-man switch)"
	case event.Alive, event.Draining, event.Goodbye, event.Witness:
		return e.Kind.String()
	}
	return "on the bus"
}

// onTable hears of a write.
func (w *watch) onTable(e arm.Event) {
	if e.Table != "" && !strings.EqualFold(e.Table, system.TableID) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.heardNews()
	switch e.Kind {
	case arm.WriteAccepted:
		w.onAccepted(e)
	case arm.OperationSucceeded:
		w.inFlight--
		w.done = e.At
		if w.written != nil {
			w.written.done, w.written = e.At, nil
		}
		w.out.event(line{at: e.At, where: "table", what: "PUT done", text: fmt.Sprintf("in force, %.1f s later", e.At.Sub(w.begun).Seconds()), colour: green})
	case arm.OperationFailed, arm.OperationCanceled:
		w.inFlight--
		w.out.event(line{at: e.At, where: "table", what: "PUT ended", text: e.Kind.String(), colour: red})
	case arm.TableSeeded, arm.PeerSeeded:
	}
}

func (w *watch) onAccepted(e arm.Event) {
	w.inFlight++
	w.begun = e.At
	t, err := readTable(e.After)
	if err != nil {
		w.intact = err
		return
	}
	w.check(t)
	after := t.hops()
	l := line{at: e.At, where: "table", what: "PUT", text: describe(w.accepted, after), colour: yellow}
	w.accepted = after
	if c := w.urgent; c != nil {
		w.urgent, w.written = nil, c
		c.put = e.At
		l.aside = ms(c.put.Sub(c.event)) + " after the event"
	}
	w.out.event(l)
}

// check compares what is not Pointsman's with what it was. The caller holds mu.
func (w *watch) check(t shownTable) {
	now, err := t.unmanaged()
	if err == nil && now != w.pristine {
		err = fmt.Errorf("%w: what others put into the table has changed:%s", errWrong, differing(w.pristine, now))
	}
	if err != nil && w.intact == nil {
		w.intact = err
	}
}

// Write takes the handler's log lines: "[handler info] {…}".
func (w *watch) Write(p []byte) (int, error) {
	for text := range bytes.Lines(p) {
		text = bytes.TrimSpace(text)
		w.mu.Lock()
		w.handler.add(string(text))
		w.mu.Unlock()
		var l struct {
			Time   time.Time
			Msg    string
			NVAs   []string
			Merged int
		}
		if i := bytes.IndexByte(text, '{'); i < 0 || json.Unmarshal(text[i:], &l) != nil || l.Msg != "invocation" || l.Merged == 0 {
			continue
		}
		w.out.event(line{at: l.Time, where: "app", what: "merged", text: plural(l.Merged, "event") + " of " + strings.ReplaceAll(strings.Join(l.NVAs, ", "), domain+"/", ""), colour: dim})
	}
	return len(p), nil
}

// hostLog keeps the last warnings of the emulators.
func (w *watch) hostLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(hostWriter{w}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type hostWriter struct{ w *watch }

// Write implements io.Writer.
func (h hostWriter) Write(p []byte) (int, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.host.add(strings.TrimSpace(string(p)))
	return len(p), nil
}

// tail keeps the last lines of a log.
type tail []string

const tailLines = 12

func (t *tail) add(text string) {
	*t = append(*t, text)
	if extra := len(*t) - tailLines; extra > 0 {
		*t = (*t)[extra:]
	}
}

// until waits until lacks returns nil; what it still lacks is part of the error. lacks is called with mu held.
func (w *watch) until(ctx context.Context, what string, lacks func() error) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		w.mu.Lock()
		err, news := lacks(), w.news
		w.mu.Unlock()
		if err == nil {
			return nil
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
			}
			return fmt.Errorf("%w: waited %s until %s: %w", errWrong, patience, what, err)
		case <-news:
		case <-tick.C:
		}
	}
}

// patience bounds every wait: far above what is normal on a slow machine.
const patience = 40 * time.Second
