package lab_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/bfd"
)

// TestBFDSoak: FRR and BIRD, and no session flaps for as long as BFD_SOAK says, while a process for each core computes, the speaker's own one
// computes and makes garbage on all cores but one, and strangers send packets. `make bfd-soak` runs it for ten minutes. Without BFD_SOAK it is
// short, and the multiplier is 10: beside other tests the machine may not run the daemons for a while, which is not what is tested.
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
	silence, pause := l.watch(ctx)
	load.Wait()

	sent, received = l.metrics.Sent.Load()-sent, l.metrics.Received.Load()-received
	t.Logf("bfd-soak: %s of load, %d sessions with FRR and BIRD at %s x%d: %d packets sent, %d received, %d of strangers discarded; 0 flaps; longest silence of a peer %s, of this process %s",
		duration, len(l.speaker.Status()), bfdInterval, mult, sent, received, l.metrics.Discarded(bfd.UnknownSession), silence.Round(time.Millisecond), pause.Round(time.Millisecond))
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

// watch fails the test at any news. It returns the longest times for which nothing was heard from a peer, and for which this process itself was
// not run when it should have been.
func (l *bfdLab) watch(ctx context.Context) (silence, pause time.Duration) {
	const every = 20 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return silence, pause
		case c := <-l.changes:
			l.t.Fatalf("%s: %s, %s (the peer: %s), %s after its last packet; the longest silence of a peer was %s, of this process %s",
				c.Session, c.State, c.Diag, c.RemoteDiag, c.At.Sub(c.Heard), silence, pause)
		case <-tick.C:
			now := time.Now()
			pause = max(pause, now.Sub(last)-every)
			last = now
			for _, s := range l.speaker.Status() {
				silence = max(silence, now.Sub(s.Heard))
			}
		}
	}
}
