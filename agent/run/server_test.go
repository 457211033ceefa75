package run_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/publish"
	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/agent/run"
	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/message"
)

// gate is a bus that does what it is told.
type gate struct {
	mu  sync.Mutex
	err error
}

func (g *gate) set(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
}

func (g *gate) answer() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

func (g *gate) Publish(context.Context, []message.Message) error { return g.answer() }
func (g *gate) Schedule(context.Context, message.Message, time.Time) (int64, error) {
	return 1, g.answer()
}
func (g *gate) Cancel(context.Context, int64) error { return g.answer() }

// served is an agent with HTTP, in real time.
type served struct {
	t      *testing.T
	routes *routes
	bus    *gate
	url    string

	follower run.Follower
}

func serve(t *testing.T, systemd run.Systemd, observers ...report.Observer) *served {
	t.Helper()
	return serveFollowed(t, systemd, nil, observers...)
}

func serveFollowed(t *testing.T, systemd run.Systemd, follower run.Follower, observers ...report.Observer) *served {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, routes: newRoutes("10.1.0.0/16"), bus: new(gate), url: "http://" + listener.Addr().String(), follower: follower}
	agent := run.New(run.Config{
		Publish: publish.Config{
			Domain: "lab", NVA: "nva1", Boot: "boot", Epoch: 5, Beat: publish.Beat{Every: time.Hour, Timeout: 3 * time.Hour},
			Snapshot: time.Hour, Restart: time.Minute, MaxBytes: 192 << 10,
		},
		Sources: []source.Source{s.routes}, Observers: observers, Follower: s.follower, Bus: s.bus, StopTimeout: 100 * time.Millisecond, Listener: listener, Systemd: systemd,
		Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if runErr := <-ended; runErr != nil {
			t.Error(runErr)
		}
	})
	return s
}

func (s *served) get(path string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// until asks until the answer has the status and holds the text.
func (s *served) until(path string, status int, text string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		gotStatus, body := s.get(path)
		if gotStatus == status && strings.Contains(body, text) {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("GET %s says %d %s\nwant %d with %q", path, gotStatus, body, status, text)
		case <-tick.C:
		}
	}
}

func TestHealth(t *testing.T) {
	s := serve(t, run.Systemd{})
	s.until("/healthz", http.StatusOK, `"healthy": true`)
	s.routes.lost("netlink socket closed")
	s.until("/healthz", http.StatusServiceUnavailable, "source routes of the test is lost: netlink socket closed")
	s.routes.mu.Lock()
	s.routes.sink.Replace(s.routes.all())
	s.routes.mu.Unlock()
	s.until("/healthz", http.StatusOK, "")
	s.bus.set(fault.New(fault.Denied, "no right"))
	s.routes.add("10.2.0.0/16")
	s.until("/healthz", http.StatusServiceUnavailable, "(denied)")
}

func TestDebugRIB(t *testing.T) {
	s := serve(t, run.Systemd{})
	s.until("/debug/rib", http.StatusOK, `"acked"`)
	s.bus.set(fault.New(fault.Transient, "link broken"))
	s.routes.add("10.0.0.0/16")
	s.until("/debug/rib", http.StatusOK, `"pending"`)
	_, body := s.get("/debug/rib")
	var got struct {
		NVA    string
		Epoch  uint64
		Routes []struct{ Prefix, Origin, Source, State string }
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if got.NVA != "nva1" || got.Epoch != 5 || len(got.Routes) != 2 || got.Routes[0].Prefix != "10.0.0.0/16" ||
		got.Routes[0].Origin != "bgp" || got.Routes[0].Source != "routes of the test" {
		t.Errorf("answer %+v", got)
	}
}

func TestMetrics(t *testing.T) {
	s := serve(t, run.Systemd{})
	for _, line := range []string{
		"pointsman_agent_routes 1\n", "pointsman_agent_pending 0\n", `pointsman_agent_events_published_total{kind="snapshot"} 1`,
		"pointsman_agent_beats_total 1\n", `pointsman_agent_source_live{source="routes of the test"} 1`, "pointsman_agent_switch_fired_total 0\n",
		"pointsman_agent_publish_latency_seconds_count 1\n", "pointsman_agent_outage_seconds_total 0\n",
	} {
		s.until("/metrics", http.StatusOK, line)
	}
	s.bus.set(fault.New(fault.Throttled, "busy"))
	s.routes.add("10.2.0.0/16")
	s.until("/metrics", http.StatusOK, `pointsman_agent_bus_failures_total{kind="throttled",operation="publish"}`)
}

func TestSystemdIsTold(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@pointsman-test-%d", time.Now().UnixNano())} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Run("", func(t *testing.T) {
			serve(t, run.Systemd{Socket: name, Watchdog: 20 * time.Millisecond})
			want := map[string]bool{"READY=1": true, "WATCHDOG=1": true, "STATUS=announcing 1 prefixes": true}
			if deadlineErr := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); deadlineErr != nil {
				t.Fatal(deadlineErr)
			}
			buf := make([]byte, 200)
			for watchdogs := 0; len(want) > 0 || watchdogs < 5; {
				n, readErr := conn.Read(buf)
				if readErr != nil {
					t.Fatalf("%v; still missing: %v", readErr, want)
				}
				if delete(want, string(buf[:n])); string(buf[:n]) == "WATCHDOG=1" {
					watchdogs++
				}
			}
		})
		_ = conn.Close()
	}
}

func TestRecord(t *testing.T) {
	var out strings.Builder
	bus := run.Record(new(gate), &out, func(err error) { t.Error(err) })
	if err := bus.Publish(t.Context(), []message.Message{{Body: []byte("{1}")}, {Body: []byte("{2}")}}); err != nil {
		t.Fatal(err)
	}
	failing := new(gate)
	failing.set(fault.New(fault.Transient, "link broken"))
	if err := run.Record(failing, &out, nil).Publish(t.Context(), []message.Message{{Body: []byte("{3}")}}); err == nil {
		t.Error("the error of the bus is lost")
	}
	if got := slices.Collect(strings.Lines(out.String())); !slices.Equal(got, []string{"{1}\n", "{2}\n"}) {
		t.Errorf("recorded %q", got)
	}
}
