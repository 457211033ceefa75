package lab_test

import (
	"context"
	"crypto/sha256"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/bfd"
)

// TestBFDSoak: FRR and BIRD, and no session flaps for as long as BFD_SOAK says, while a process for each core computes, the speaker's own one
// computes and makes garbage as a busy agent does, and strangers send packets. `make bfd-soak` runs it for ten minutes. Without BFD_SOAK it is
// short, and the multiplier is 10: beside other tests the machine may not run the daemons for a while, which is not what is tested. Nor is it that
// the machine does not run this process, which is measured: then the peers are right.
func TestBFDSoak(t *testing.T) {
	need(t, "/usr/lib/frr/bfdd", "vtysh", "bird", "birdc")
	duration, mult := 20*time.Second, 10
	if text := os.Getenv("BFD_SOAK"); text != "" {
		var err error
		duration, err = time.ParseDuration(text)
		must(t, err)
		mult = bfdMultiplier
	}
	f, b := &frrBFD{}, &birdBFD{}
	l := newBFDLab(t, false, false, mult, f, b)
	l.up("the beginning", f)
	sent, received := l.metrics.Sent.Load(), l.metrics.Received.Load()

	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var load sync.WaitGroup
	for i := range runtime.NumCPU() {
		l.fars[0].start("load", exec.CommandContext(ctx, "sh", "-c", "while :; do :; done"))
		if i > 0 {
			load.Go(func() { compute(ctx) })
		}
	}
	var noise atomic.Uint64
	load.Go(func() { l.noise(ctx, &noise) })
	seen := l.watch(ctx)
	load.Wait()

	sent, received = l.metrics.Sent.Load()-sent, l.metrics.Received.Load()-received
	flaps, excused := seen.judge(time.Duration(mult-1) * bfdInterval)
	t.Logf("bfd-soak: %s of load, %d sessions with FRR and BIRD at %s x%d: %d packets sent, %d received, %d of strangers discarded; %d flaps, %d more while "+
		"this process was not run for %d intervals; longest silence of a peer %s, of this process %s",
		duration, len(l.speaker.Status()), bfdInterval, mult, sent, received, l.metrics.Discarded(bfd.UnknownSession), len(flaps), excused, mult-1,
		seen.silence.Round(time.Millisecond), seen.longestPause().Round(time.Millisecond))
	for _, c := range flaps {
		t.Errorf("%s: %s, %s (the peer: %s), %s after its last packet", c.Session, c.State, c.Diag, c.RemoteDiag, c.At.Sub(c.Heard))
	}
	if noise.Load() == 0 || l.metrics.Discarded(bfd.UnknownSession) == 0 {
		t.Error("no packet of strangers came")
	}
	// Every session sends at the agreed interval, less a quarter at most.
	most := uint64(len(l.speaker.Status())) * (uint64(duration/bfdInterval)*4/3 + 10)
	if sent > most || sent < most/4 {
		t.Errorf("%d packets sent, want at most %d and not far below", sent, most)
	}
}

// compute keeps a core busy and makes some 100 MB of garbage a second, over a heap as large as that of an agent with many routes.
func compute(ctx context.Context) {
	heap := make([]byte, 32<<20)
	for ctx.Err() == nil {
		for i := 0; i < len(heap); i += 1 << 20 {
			garbage := make([]byte, 64<<10)
			copy(garbage, heap[i:])
			sum := sha256.Sum256(heap[i : i+1<<20])
			copy(heap[i:], sum[:])
		}
	}
}

// noise sends packets for no session, from the first daemon's namespace: 1,000 a second.
func (l *bfdLab) noise(ctx context.Context, count *atomic.Uint64) {
	var conn net.Conn
	err := l.fars[0].ns.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "udp", net.JoinHostPort(ourAddress, "3784"))
		return err
	})
	if err != nil {
		l.t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	p := bfd.Packet{State: bfd.Down, My: 1, Your: 1, DetectMult: 3, DesiredMinTx: time.Second, RequiredMinRx: time.Second}
	packet := p.Append(nil)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for range 10 {
				if _, err = conn.Write(packet); err == nil {
					count.Add(1)
				}
			}
		}
	}
}

// observation is what was seen of the sessions and of this process.
type observation struct {
	silence time.Duration // the longest of a peer
	flaps   []bfd.Change
	pauses  []pause
}

// pause is a time for which this process was not run though it should have been.
type pause struct {
	until time.Time
	long  time.Duration
}

func (o *observation) longestPause() (longest time.Duration) {
	for _, p := range o.pauses {
		longest = max(longest, p.long)
	}
	return longest
}

// judge returns the flaps, and how many there were beside a pause so long that the peers had to take it for a failure.
func (o *observation) judge(tolerated time.Duration) (flaps []bfd.Change, excused int) {
	for _, c := range o.flaps {
		if slices.ContainsFunc(o.pauses, func(p pause) bool { return p.long >= tolerated && c.At.Sub(p.until).Abs() < 2*time.Second }) {
			excused++
		} else {
			flaps = append(flaps, c)
		}
	}
	return flaps, excused
}

// watch looks on until ctx is done.
func (l *bfdLab) watch(ctx context.Context) (seen observation) {
	const every, notable = 20 * time.Millisecond, 50 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return seen
		case c := <-l.changes:
			if c.State != bfd.Up {
				seen.flaps = append(seen.flaps, c)
			}
		case <-tick.C:
			now := time.Now()
			if long := now.Sub(last) - every; long > notable {
				seen.pauses = append(seen.pauses, pause{now, long})
			}
			last = now
			for _, s := range l.speaker.Status() {
				seen.silence = max(seen.silence, now.Sub(s.Heard))
			}
		}
	}
}
