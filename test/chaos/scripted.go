//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pointsman/pointsman/agent/publish"
	"github.com/pointsman/pointsman/agent/run"
	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/azure/servicebus"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/test/netns"
)

// scripted is an appliance without a machine: the agent's own loop and its client of the bus run in this process, over routes that are
// only a list.
type scripted struct {
	name       string
	connection string
	way        *netns.Way
	log        tail
	epoch      uint64
	running    *runningAgent

	mu     sync.Mutex
	routes map[netip.Prefix]uint32
	sink   source.Sink // of the running agent; nil: none looks
}

// runningAgent is one start of the agent.
type runningAgent struct {
	end   context.CancelFunc
	ended chan struct{}
}

func newScripted(name, bus, connection string) (*scripted, *netns.Way, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("way to the bus: %w", err)
	}
	w := netns.NewWay(l, bus)
	s := &scripted{name: name, connection: strings.Replace(connection, bus, l.Addr().String(), 1), way: w, routes: map[netip.Prefix]uint32{}}
	return s, w, nil
}

// Run implements source.Source.
func (s *scripted) Run(ctx context.Context, sink source.Sink) error {
	s.mu.Lock()
	s.sink = sink
	sink.Replace(s.list())
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink = nil
	return nil
}

// String implements source.Source.
func (s *scripted) String() string { return "script" }

// list returns the routes as a source reports them. The caller holds mu.
func (s *scripted) list() []source.Route {
	var out []source.Route
	for p, metric := range s.routes {
		out = append(out, source.Route{Prefix: p, Metric: metric, Origin: "bgp"})
	}
	slices.SortFunc(out, func(a, b source.Route) int { return route.Compare(a.Prefix, b.Prefix) })
	return out
}

func (s *scripted) boot(onStop string) error {
	sender, err := servicebus.NewSender(servicebus.Config{ConnectionString: s.connection, Queue: queueNames()[0]})
	if err != nil {
		return fmt.Errorf("agent of %s: %w", s.name, err)
	}
	kind := event.Goodbye
	if onStop == event.Draining.String() {
		kind = event.Draining
	}
	s.epoch = max(s.epoch+1, uint64(time.Now().UnixMilli())) // it is positive
	ctx, end := context.WithCancel(context.Background())
	r := &runningAgent{end: end, ended: make(chan struct{})}
	agent := run.New(run.Config{
		Publish: publish.Config{
			Domain: domain, NVA: s.name, Boot: fmt.Sprintf("%s-%d", s.name, s.epoch), Epoch: s.epoch,
			Gather: publish.Gather{Quiet: 100 * time.Millisecond, Max: time.Second}, Beat: publish.Beat{Every: beatEvery, Timeout: beatTimeout},
			Snapshot: snapshots, Restart: restartTime, MaxBytes: 192 << 10,
		},
		Sources: []source.Source{s}, Bus: sender, StopTimeout: stopTimeout, Logger: slog.New(slog.NewTextHandler(&s.log, nil)),
		Farewell: func(context.Context) event.Kind { return kind },
	})
	go func() {
		defer close(r.ended)
		defer end()
		if failed := agent.Run(ctx); failed != nil {
			s.log.say(failed.Error())
		}
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = sender.Close(closing)
	}()
	s.running = r
	return nil
}

func (s *scripted) alive() bool {
	if s.running == nil {
		return false
	}
	select {
	case <-s.running.ended:
		return false
	default:
		return true
	}
}

// kill ends the agent without a word: its way to the bus is cut until it has ended.
func (s *scripted) kill() error {
	if s.running == nil {
		return nil
	}
	s.way.Cut("killing", true)
	s.running.end()
	<-s.running.ended
	s.running = nil
	s.way.Cut("killing", false)
	return nil
}

func (s *scripted) stop(ctx context.Context) error {
	if s.running == nil {
		return nil
	}
	s.running.end()
	select {
	case <-s.running.ended:
	case <-ctx.Done():
	}
	return s.kill()
}

// power off drops all routes, as the kernel does.
func (s *scripted) power(on bool) error {
	if !on {
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.routes)
	}
	return nil
}

func (s *scripted) change(gone, learned []announcement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range gone {
		delete(s.routes, a.prefix)
	}
	for _, a := range learned {
		s.routes[a.prefix] = a.metric
	}
	if s.sink != nil {
		s.report(gone, learned)
	}
	return nil
}

// report tells the agent what differs. The caller holds mu.
func (s *scripted) report(gone, learned []announcement) {
	var changed []source.Route
	var lost []netip.Prefix
	for _, r := range s.list() {
		if slices.ContainsFunc(learned, func(a announcement) bool { return a.prefix == r.Prefix }) {
			changed = append(changed, r)
		}
	}
	for _, p := range prefixesOf(gone) {
		if _, has := s.routes[p]; !has {
			lost = append(lost, p)
		}
	}
	slices.SortFunc(lost, route.Compare)
	s.sink.Update(changed, lost)
}

func (s *scripted) last() []string { return s.log.last() }

func (s *scripted) close() error { return s.kill() }
