package witness

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pointsman/pointsman/agent/bfd"
	"github.com/pointsman/pointsman/agent/report"
)

// BFD is the method that watches peers by BFD; a session has the name of its NVA.
type BFD struct {
	cfg     bfd.Config
	log     *slog.Logger
	metrics *bfd.Metrics
	speaker atomic.Pointer[bfd.Speaker]
	trouble atomic.Pointer[string]
}

var (
	_ Method          = (*BFD)(nil)
	_ report.Troubled = (*BFD)(nil)
	_ report.Detailed = (*BFD)(nil)
)

// NewBFD returns a method that opens nothing before Run, or everything that is wrong with cfg.
func NewBFD(cfg bfd.Config, log *slog.Logger, metrics *bfd.Metrics) (*BFD, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &BFD{cfg: cfg, log: log, metrics: metrics}, nil
}

// String implements Method.
func (b *BFD) String() string { return "bfd" }

// handshake is how long a session takes at most to come up: packets are a second apart until then, and three of them do it (RFC 5880, section 6.8.3).
const handshake = 3 * time.Second

// firstUp is how long a session is given to come up for the first time. A peer that was never up makes no news.
const firstUp = 5 * time.Second

// Timing implements Method.
func (b *BFD) Timing() Timing {
	t := Timing{Recovery: handshake}
	for _, s := range b.cfg.Sessions {
		t.Interval = max(t.Interval, s.RequiredMinRx, s.DesiredMinTx)
	}
	return t
}

// Trouble implements report.Troubled.
func (b *BFD) Trouble() string {
	if t := b.trouble.Load(); t != nil {
		return *t
	}
	return ""
}

// sessionDetail is what is shown of a session.
type sessionDetail struct {
	NVA         string  `json:"nva"`
	Peer        string  `json:"peer"`
	State       string  `json:"state"`
	Diag        string  `json:"diagnostic"`
	Remote      string  `json:"remoteState"`
	IntervalMs  float64 `json:"intervalMs"`
	DetectionMs float64 `json:"detectionMs"`
}

// Detail implements report.Detailed.
func (b *BFD) Detail() any {
	all := []sessionDetail{}
	if s := b.speaker.Load(); s != nil {
		for _, st := range s.Status() {
			all = append(all, sessionDetail{
				st.Session, st.Peer.String(), st.State.String(), st.Diag.String(), st.Remote.String(),
				float64(st.Interval) / float64(time.Millisecond), float64(st.DetectionTime) / float64(time.Millisecond),
			})
		}
	}
	return all
}

// reopen is the pause before a speaker that failed is replaced: an address that is not there yet, at boot, is the usual reason.
const reopen = time.Second

// Run implements Method.
func (b *BFD) Run(ctx context.Context, tell func(Sight)) error {
	for {
		err := b.speak(ctx, tell)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to stop
		}
		if text := err.Error(); text != b.Trouble() {
			b.trouble.Store(&text)
			b.log.LogAttrs(ctx, slog.LevelWarn, "BFD cannot speak; trying again", slog.Any("error", err))
		}
		timer := time.NewTimer(reopen)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// speak is the life of one speaker.
func (b *BFD) speak(ctx context.Context, tell func(Sight)) error {
	speaker, err := bfd.New(b.cfg, b.log, b.metrics)
	if err != nil {
		return fmt.Errorf("speaker: %w", err)
	}
	b.speaker.Store(speaker)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	news := &latest{changed: make(chan struct{}, 1)}
	listened := make(chan struct{})
	go func() {
		defer close(listened)
		b.listen(ctx, news, tell)
	}()
	err = speaker.Run(ctx, news.put)
	cancel()
	<-listened
	return err
}

// latest keeps the latest change of every session: the speaker must not wait, and only the last word counts.
type latest struct {
	mu      sync.Mutex
	changes []bfd.Change
	changed chan struct{} // holds a token when there are any
}

func (l *latest) put(c bfd.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(slices.DeleteFunc(l.changes, func(old bfd.Change) bool { return old.Session == c.Session }), c)
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *latest) take() []bfd.Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.changes
	l.changes = nil
	return out
}

// listen turns the news of sessions into sights, and takes a session that does not come up for one of a peer that does not answer.
func (b *BFD) listen(ctx context.Context, news *latest, tell func(Sight)) {
	silent := map[string]bool{}
	for _, s := range b.cfg.Sessions {
		silent[s.Name] = true
	}
	began := time.Now()
	late := time.NewTimer(firstUp)
	defer late.Stop()
	works := time.NewTimer(reopen) // a speaker that cannot open its sockets fails before
	defer works.Stop()
	for {
		select {
		case <-news.changed:
			for _, c := range news.take() {
				if ctx.Err() != nil { // we end the sessions ourselves, which says nothing
					return
				}
				delete(silent, c.Session)
				tell(sightOf(c))
			}
		case <-works.C:
			if b.trouble.Swap(nil) != nil {
				b.log.LogAttrs(ctx, slog.LevelInfo, "BFD speaks again")
			}
		case <-late.C:
			for _, s := range b.cfg.Sessions {
				if silent[s.Name] {
					tell(Sight{NVA: s.Name, State: Unreachable, Missing: true, Since: began})
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// sightOf says what the news of a session means.
func sightOf(c bfd.Change) Sight {
	switch c.State {
	case bfd.Up:
		return Sight{NVA: c.Session, State: Reachable}
	case bfd.Down:
		return Sight{
			NVA: c.Session, State: Unreachable, Missing: true, Since: c.Heard,
			// The peer's packets arrive, and say that nothing of ours does.
			Deaf: c.Diag == bfd.NeighborDown && c.RemoteDiag == bfd.DetectionTimeExpired,
		}
	case bfd.AdminDown, bfd.Init: // somebody holds the session down: nothing about the path
	}
	return Sight{NVA: c.Session, State: Unknown}
}
