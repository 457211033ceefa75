package lab_test

import (
	"context"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/bfd"
)

// TestBFDSoak: FRR and BIRD, and no session flaps for as long as BFD_SOAK says, while the speaker's own process computes and makes garbage on every
// core and strangers send packets. `make bfd-soak` runs it for ten minutes. Without BFD_SOAK it is short, and the multiplier is 10: beside
// other tests the machine may not run the daemons for a while, which is not what is tested.
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
	for range runtime.NumCPU() {
		load.Go(func() { compute(ctx) })
	}
	var noise atomic.Uint64
	load.Go(func() { l.noise(ctx, &noise) })
	longest := l.watch(ctx)
	load.Wait()

	sent, received = l.metrics.Sent.Load()-sent, l.metrics.Received.Load()-received
	t.Logf("bfd-soak: %s of load, %d sessions with FRR and BIRD at %s x%d: %d packets sent, %d received, %d of strangers discarded; 0 flaps; longest silence seen %s",
		duration, len(l.speaker.Status()), bfdInterval, mult, sent, received, l.metrics.Discarded(bfd.UnknownSession), longest.Round(time.Millisecond))
	if noise.Load() == 0 || l.metrics.Discarded(bfd.UnknownSession) == 0 {
		t.Error("no packet of strangers came")
	}
	// Every session sends at the agreed interval, less a quarter at most.
	most := uint64(len(l.speaker.Status())) * (uint64(duration/bfdInterval)*4/3 + 10)
	if sent > most || sent < most/4 {
		t.Errorf("%d packets sent, want at most %d and not far below", sent, most)
	}
}

// compute keeps a core and the garbage collector busy.
func compute(ctx context.Context) {
	for ctx.Err() == nil {
		_ = strings.Repeat("pointsman", 10_000)
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

// watch fails the test at any news, and returns the longest time for which nothing was heard from a peer.
func (l *bfdLab) watch(ctx context.Context) (longest time.Duration) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return longest
		case c := <-l.changes:
			l.t.Fatalf("%s: %s, %s (the peer: %s), %s after its last packet", c.Session, c.State, c.Diag, c.RemoteDiag, c.At.Sub(c.Heard))
		case <-tick.C:
			now := time.Now()
			for _, s := range l.speaker.Status() {
				longest = max(longest, now.Sub(s.Heard))
			}
		}
	}
}
