package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/shared/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestStreak: + is a success, - a failure; below it the state after it, ? + or -.
func TestStreak(t *testing.T) {
	for _, test := range []struct {
		fall, rise     int
		outcomes, want string
	}{
		{2, 2, "++++", "++++"},
		{2, 2, "--++", "?--+"},
		{2, 2, "-+-+", "?+++"},
		{2, 2, "+-+--+-++", "++++----+"},
		{1, 1, "-+-", "-+-"},
		{3, 2, "---+--++", "??-----+"},
	} {
		s, got := streak{fall: test.fall, rise: test.rise}, ""
		for _, o := range test.outcomes {
			var err error
			if o == '-' {
				err = errors.New("bad")
			}
			outcome, reason, _ := s.take(err)
			got += map[event.Check]string{event.Absent: "?", event.Passed: "+", event.Failed: "-"}[outcome]
			if (outcome == event.Failed) != (reason != "") {
				t.Errorf("%s with the reason %q", outcome, reason)
			}
		}
		if got != test.want {
			t.Errorf("fall %d rise %d, %s: got %s, want %s", test.fall, test.rise, test.outcomes, got, test.want)
		}
	}
}

func TestOnlyWhatIsNewIsTold(t *testing.T) {
	s := streak{fall: 1, rise: 1}
	for i, test := range []struct {
		err     error
		changed bool
	}{{nil, true}, {nil, false}, {errors.New("a"), true}, {errors.New("a"), false}, {errors.New("b"), true}, {nil, true}} {
		if _, _, changed := s.take(test.err); changed != test.changed {
			t.Errorf("outcome %d: changed is %t", i, changed)
		}
	}
}

func script(t *testing.T, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "check")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{path, "argument"}
}

func TestCommands(t *testing.T) {
	t.Setenv("BUS", "secret")
	long := strings.Repeat("x", 300)
	for name, test := range map[string]struct{ text, want string }{
		"good":                          {"exit 0", ""},
		"arguments":                     {"[ $1 = argument ]", ""},
		"code":                          {"exit 3", "exit status 3"},
		"first line of standard error":  {"echo out; echo; echo ' one ' >&2; echo two >&2; exit 1", "exit status 1: one"},
		"standard output else":          {"echo out; exit 1", "exit status 1: out"},
		"no secrets":                    {`[ -z "$BUS" ]`, ""},
		"much output":                   {"head -c 1000000 /dev/zero | tr '\\0' x; exit 1", "exit status 1: " + long[:200]},
		"bytes that are no text":        {"printf '\\377no\\n'; exit 1", "exit status 1: ?no"},
		"a child that holds the output": {"sleep 100 & exit 0", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			got := ""
			if err := execute(ctx, script(t, test.text), 30*time.Second); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if err := execute(t.Context(), []string{"/nonexistent"}, time.Second); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no program: got %v", err)
	}
}

// TestATimeoutEndsTheChildrenToo: the program waits for a child that would wait for ever.
func TestATimeoutEndsTheChildrenToo(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // time is up once the child runs
		for {
			if text, err := os.ReadFile(pidFile); err == nil && strings.HasSuffix(string(text), "\n") {
				cancel()
				return
			}
		}
	}()
	err := execute(ctx, script(t, "echo waiting; sleep 1000 & echo $! > "+pidFile+"; wait"), 2*time.Second)
	if err == nil || err.Error() != "not done after 2s: waiting" {
		t.Errorf("got %v", err)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; {
		stat, gone := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if gone != nil || strings.Contains(string(stat), ") Z ") || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("child %d lives: %s", pid, stat)
		}
	}
}

func TestTCP(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(l.Addr().String())
	if err = attempt(t.Context(), Config{TCP: at, Timeout: 30 * time.Second}); err != nil {
		t.Error(err)
	}
	_ = l.Close()
	if err = attempt(t.Context(), Config{TCP: at, Timeout: 30 * time.Second}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v, want that it was refused", err)
	}
}

// links is what a test says of links.
type links struct{ problems chan []string }

func (l links) Run(ctx context.Context, tell func([]string)) error {
	for {
		select {
		case p := <-l.problems:
			tell(p)
		case <-ctx.Done():
			return nil
		}
	}
}

func TestUplinksAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wan, lan := links{make(chan []string)}, links{make(chan []string)}
		c := New([]Config{{Uplinks: []string{"wan"}}, {Uplinks: []string{"lan"}}}, func(names []string) Links {
			return map[string]Links{"wan": wan, "lan": lan}[names[0]]
		})
		ctx, cancel := context.WithCancel(t.Context())
		var got event.Report
		ended := make(chan error)
		go func() { ended <- c.Run(ctx, func(r event.Report) { got = r }) }()
		for i, step := range []struct {
			links    links
			problems []string
			want     event.Report
		}{
			{wan, nil, event.Report{SelfCheck: event.Passed}},
			{lan, []string{"lan is down", "lan2 is down"}, event.Report{SelfCheck: event.Failed, Reason: "lan is down, lan2 is down"}},
			{wan, []string{"wan has no carrier"}, event.Report{SelfCheck: event.Failed, Reason: "wan has no carrier; lan is down, lan2 is down"}},
			{lan, nil, event.Report{SelfCheck: event.Failed, Reason: "wan has no carrier"}},
			{wan, nil, event.Report{SelfCheck: event.Passed}},
		} {
			step.links.problems <- step.problems
			synctest.Wait()
			if !got.Equal(step.want) {
				t.Errorf("step %d: got %+v, want %+v", i, got, step.want)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestACheckIsRepeated: a program decides by a file; when the agent stops, the check that is under way says nothing.
func TestACheckIsRepeated(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "bad")
	c := New([]Config{{Command: script(t, "[ ! -e "+flag+" ]"), Every: 10 * time.Millisecond, Timeout: 30 * time.Second, Fall: 2, Rise: 2}}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan event.Report, 100)
	ended := make(chan error)
	go func() { ended <- c.Run(ctx, func(r event.Report) { told <- r }) }()
	until := func(want event.Check) {
		t.Helper()
		select {
		case r := <-told:
			if r.SelfCheck != want || (want == event.Failed) != strings.HasSuffix(r.Reason, "check: exit status 1") {
				t.Errorf("got %+v, want %s", r, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("not %s within 30 s", want)
		}
	}
	until(event.Passed)
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(event.Failed)
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	until(event.Passed)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(told) > 0 {
		t.Errorf("told at the end: %+v", <-told)
	}
}
