// Package bgp learns routes from BGP peers: the NVA's own routing daemon, or an appliance beside it. It never announces anything.
//
// A session that ends says nothing about the routes: the daemon was restarted, or the way to it failed, and the kernel goes on
// forwarding. So what a lost session announced stays, stale, until the peer is back and has said everything again, or until the
// restart time is over. What stays longer is reported as control lost, until the peer is back and has said everything again. Only a withdrawal takes a route
// away at once.
//
// The package decides; it does not speak BGP itself. That is the part of a [Speaker], such as the one in bgp/gobgp, which is linked
// into the agent only if wanted.
package bgp

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pointsman/pointsman/agent/source"
)

// Speaker holds sessions with the peers of a [Config] and announces nothing in them.
type Speaker interface {
	// Speak hands to h what the peers say until ctx is done, and then returns nil. Any other return is an error; one that
	// wraps ErrUnusable says that trying again cannot help. Sessions that fail are opened again without an end to Speak.
	Speak(ctx context.Context, h Hearer) error
}

// Hearer receives what peers say; they are named by their index in Config.Peers. A speaker makes one call at a time, for each peer in
// the order of events: Established comes before anything else of a session, Lost after all of it. No method blocks.
type Hearer interface {
	// Established begins a session in which these families were agreed upon. restart is the restart time of the peer's graceful
	// restart capability (RFC 4724, section 3), 0 without.
	Established(peer int, families []Family, restart time.Duration)
	// Update is one UPDATE. The slices may be used again after the call.
	Update(peer int, paths []Path)
	// EndOfRIB is the mark of RFC 4724, section 2.
	EndOfRIB(peer int, family Family)
	// Lost ends a session, or says why none came about. ceased: the speaker closed it since there were more than Config.CeaseAt
	// prefixes.
	Lost(peer int, reason string, ceased bool)
}

// ErrUnusable is wrapped by the error of a [Speaker] that cannot work as configured.
var ErrUnusable = errors.New("the BGP configuration cannot be used")

// Metrics counts what a source does. The fields may be read at any time.
type Metrics struct {
	Updates     atomic.Uint64 // UPDATE messages
	Refused     atomic.Uint64 // paths that the filters refused
	Changes     atomic.Uint64 // prefixes reported as changed or gone
	Established atomic.Uint64 // sessions that came up
	Lost        atomic.Uint64 // sessions that ended
	Prefixes    atomic.Int64  // reported and not gone
	Sessions    atomic.Int64  // up now
}

// Source is the route source; it implements [source.Source].
type Source struct {
	cfg     Config
	speaker Speaker
	log     *slog.Logger
	metrics *Metrics
}

var _ source.Source = (*Source)(nil)

// New returns a source. Nothing is opened before Run. cfg is complete: nothing in it has a default. A nil metrics is allowed.
func New(cfg Config, speaker Speaker, log *slog.Logger, metrics *Metrics) *Source {
	if metrics == nil {
		metrics = new(Metrics)
	}
	return &Source{cfg: cfg, speaker: speaker, log: log, metrics: metrics}
}

// String names the source by its peers: "bgp frr,bird".
func (s *Source) String() string {
	var names []string
	for _, p := range s.cfg.Peers {
		names = append(names, p.Name)
	}
	return "bgp " + strings.Join(names, ",")
}

// reopen is the pause before a speaker that failed speaks again: it doubles from the first to the longest.
const (
	firstReopen   = time.Second
	longestReopen = 30 * time.Second
)

// Run reports to sink until ctx is done and then returns nil. It returns an error if the configuration cannot be used; any other
// error of the speaker, such as an address that is not there yet, is reported by sink.Lost, and it tries again.
func (s *Source) Run(ctx context.Context, sink source.Sink) error {
	ear := &ear{Source: s, shadow: newShadow(&s.cfg, time.Now()), news: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ended <- ear.listen(ctx) }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ear.news:
		case <-timer.C:
		case err := <-ended:
			return err
		}
		next := ear.report(ctx, sink)
		if next.IsZero() {
			timer.Stop()
			continue
		}
		timer.Reset(time.Until(next))
	}
}

// ear is where speaker and source meet. The speaker's calls only write into the shadow; the sink is called by Run.
type ear struct {
	*Source
	news chan struct{} // holds one: there may be something to report

	mu     sync.Mutex
	shadow *shadow
}

// listen keeps the speaker speaking.
func (e *ear) listen(ctx context.Context) error {
	for pause := firstReopen; ; pause = min(2*pause, longestReopen) {
		began := time.Now()
		err := e.speaker.Speak(ctx, e)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to end; what failed then failed by that
		case errors.Is(err, ErrUnusable):
			return err
		}
		if time.Since(began) > longestReopen {
			pause = firstReopen
		}
		e.log.LogAttrs(ctx, slog.LevelWarn, "BGP failed, trying again", slog.String("source", e.String()), slog.Duration("pause", pause), slog.Any("error", err))
		for i := range e.cfg.Peers {
			e.Lost(i, err.Error(), false)
		}
		rest(ctx, pause)
	}
}

func rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// report tells the sink what is new, and returns when to look again.
func (e *ear) report(ctx context.Context, sink source.Sink) time.Time {
	e.mu.Lock()
	r := e.shadow.take(time.Now())
	next, told := e.shadow.next(), len(e.shadow.told)
	e.mu.Unlock()
	e.metrics.Prefixes.Store(int64(told))
	e.metrics.Changes.Add(uint64(len(r.changed) + len(r.gone)))
	if r.first && r.turned {
		sink.ControlLost(r.stranded)
	}
	switch {
	case r.replace:
		e.log.LogAttrs(ctx, slog.LevelInfo, "routes complete", slog.String("source", e.String()), slog.Int("prefixes", len(r.all)))
		sink.Replace(r.all)
	case len(r.changed)+len(r.gone) > 0:
		sink.Update(r.changed, r.gone)
	}
	if r.lost != "" {
		e.log.LogAttrs(ctx, slog.LevelWarn, "routes may be stale", slog.String("source", e.String()), slog.String("reason", r.lost))
		sink.Lost(errors.New(r.lost))
	}
	if r.turned && !r.first {
		sink.ControlLost(r.stranded)
	}
	return next
}

func (e *ear) change(f func(s *shadow, now time.Time)) {
	e.mu.Lock()
	f(e.shadow, time.Now())
	e.mu.Unlock()
	select {
	case e.news <- struct{}{}:
	default: // it was said already
	}
}

func (e *ear) Established(peer int, families []Family, restart time.Duration) {
	e.metrics.Established.Add(1)
	e.metrics.Sessions.Add(1)
	e.log.LogAttrs(context.Background(), slog.LevelInfo, "BGP session established", slog.String("peer", e.cfg.Peers[peer].Name), slog.String("families", names(families)))
	e.change(func(s *shadow, now time.Time) { s.established(peer, now, families, restart) })
}

func names(families []Family) string {
	var out []string
	for _, f := range families {
		out = append(out, f.String())
	}
	return strings.Join(out, ",")
}

func (e *ear) Update(peer int, paths []Path) {
	e.metrics.Updates.Add(1)
	e.change(func(s *shadow, now time.Time) {
		e.metrics.Refused.Add(s.update(peer, now, paths))
	})
}

func (e *ear) EndOfRIB(peer int, family Family) {
	e.change(func(s *shadow, _ time.Time) { s.endOfRIB(peer, family) })
}

func (e *ear) Lost(peer int, reason string, ceased bool) {
	e.change(func(s *shadow, now time.Time) {
		if s.lost(peer, now, reason, ceased) {
			e.metrics.Lost.Add(1)
			e.metrics.Sessions.Add(-1)
		}
	})
}
