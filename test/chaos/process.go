//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that can be killed, in a process group of its own together with all that it starts.
//
// The leader of the group is a shell that waits for its standard input to end, and then kills the whole group: so nothing is left behind,
// however this program ends, and what a killed program leaves behind lives on until end.
type process struct {
	name   string
	leader *exec.Cmd
	input  io.Closer
	pid    int
}

const leaderScript = `"$@" 2>&1 </dev/null & echo "pid $!"; read _; kill -9 0`

// startTimeout bounds how long a shell needs to start a program.
const startTimeout = 20 * time.Second

// startProcess starts argv; launch starts the command that it is given, in a network namespace perhaps.
func startProcess(name string, log *tail, environ []string, launch func(*exec.Cmd) error, argv ...string) (*process, error) {
	p := &process{name: name, leader: exec.CommandContext(context.Background(), "sh", append([]string{"-c", leaderScript, "sh"}, argv...)...)} // our own binaries
	pid := make(chan int, 1)
	log.mu.Lock()
	log.see = func(line string) {
		if n, err := strconv.Atoi(strings.TrimPrefix(line, "pid ")); err == nil {
			select {
			case pid <- n:
			default:
			}
		}
	}
	log.mu.Unlock()
	p.leader.Env, p.leader.Stdout, p.leader.Stderr = environ, log, log
	p.leader.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is not for it
	p.leader.WaitDelay = 2 * time.Second
	input, err := p.leader.StdinPipe()
	if err == nil {
		p.input, err = input, launch(p.leader)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case p.pid = <-pid:
		return p, nil
	case <-timer.C:
		return nil, errors.Join(fmt.Errorf("start %s: nothing heard of it in %s", name, startTimeout), p.end())
	}
}

// stat is a line of /proc/PID/stat.
type stat struct {
	pid, parent, group int
	zombie             bool
}

// readStat fails if there is no such process.
func readStat(pid int) (stat, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, false
	}
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	f := strings.Fields(rest)
	if len(f) < 3 {
		return stat{}, false
	}
	s := stat{pid: pid, zombie: f[0] == "Z" || f[0] == "X"}
	s.parent, _ = strconv.Atoi(f[1])
	s.group, _ = strconv.Atoi(f[2])
	return s, true
}

// members are the living processes of the group.
func (p *process) members() []stat {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []stat
	for _, e := range entries {
		pid, bad := strconv.Atoi(e.Name())
		if bad != nil {
			continue
		}
		if s, ok := readStat(pid); ok && !s.zombie && s.group == p.leader.Process.Pid {
			out = append(out, s)
		}
	}
	return out
}

// alive reports whether the program runs.
func (p *process) alive() bool {
	if p == nil {
		return false
	}
	s, ok := readStat(p.pid)
	return ok && !s.zombie && s.group == p.leader.Process.Pid
}

// child returns the process id of a program that the program has started, 0 if there is none.
func (p *process) child() int {
	for _, s := range p.members() {
		if s.parent == p.pid {
			return s.pid
		}
	}
	return 0
}

// signal sends a signal to the program, and to nobody else.
func (p *process) signal(s syscall.Signal) error {
	if !p.alive() {
		return nil
	}
	if err := syscall.Kill(p.pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// end kills the whole group and waits until it is gone.
func (p *process) end() error {
	_ = p.input.Close()
	_ = p.leader.Wait() // "signal: killed"
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return until(ctx, 10*time.Millisecond, func() error {
		if left := p.members(); len(left) > 0 {
			return fmt.Errorf("%s left processes behind: %v", p.name, left)
		}
		return nil
	})
}

// until waits until lacks returns nil; what it still lacks when ctx ends is the error.
func until(ctx context.Context, every time.Duration, lacks func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var said error
	for {
		err := lacks()
		if err == nil {
			return nil
		}
		if said == nil || ctx.Err() == nil { // what was lacking tells more than that the time was up
			said = err
		}
		select {
		case <-ctx.Done():
			return said
		case <-tick.C:
		}
	}
}
