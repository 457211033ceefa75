//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pointsman/pointsman/emulator/funchost"
	"github.com/pointsman/pointsman/test/system"
)

// hostConfig is what the process of the Functions host reads.
type hostConfig struct {
	AppRoot  string
	StateDir string
	Settings map[string]string
}

// hostWord is the argument that makes this program the Functions host.
const hostWord = "functions-host"

func asHost(args []string) (file string, ok bool) {
	if len(args) == 3 && args[1] == hostWord {
		return args[2], true
	}
	return "", false
}

// serveHost is the process of the Functions host: it runs until it is killed, or until the handler has died too often.
func serveHost(file string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx := context.Background()
	text, err := os.ReadFile(file) // our own
	var cfg hostConfig
	if err == nil {
		err = json.Unmarshal(text, &cfg)
	}
	var host *funchost.Host
	if err == nil {
		host, err = funchost.Start(ctx, funchost.Config{
			AppRoot: cfg.AppRoot, Settings: cfg.Settings, StateDir: cfg.StateDir, Logger: log, HandlerOutput: os.Stdout,
			Timing: funchost.Timing{RetryMax: 2 * time.Second},
		})
	}
	if err == nil {
		err = host.Wait()
	}
	log.ErrorContext(ctx, "the Functions host ends", slog.Any("error", err))
	return 1
}

// hosts runs one Functions host after the other.
type hosts struct {
	sys    *system.System
	log    *journal
	tail   *tail
	file   string
	begun  int
	now    *process
	orphan []orphan
}

// orphan is a handler whose host was killed: it finishes what it was at, while the next one works already.
type orphan struct {
	*process
	until time.Time
}

func newHosts(sys *system.System, log *journal, app, dir string) (*hosts, error) {
	h := &hosts{sys: sys, log: log, tail: &tail{}, file: filepath.Join(dir, "host.json")}
	text, err := json.Marshal(hostConfig{AppRoot: app, StateDir: dir, Settings: sys.HostSettings()})
	if err == nil {
		err = os.WriteFile(h.file, text, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration of the host: %w", err)
	}
	return h, nil
}

// start starts a host if none runs.
func (h *hosts) start() error {
	if h.now != nil {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("this program: %w", err)
	}
	h.begun++
	h.now, err = startProcess(fmt.Sprintf("host %d", h.begun), h.tail, h.sys.BaseEnvironment(os.Environ()), (*exec.Cmd).Start, self, hostWord, h.file)
	return err
}

// tend brings back what has died, and ends orphans whose time is over.
func (h *hosts) tend(now time.Time) error {
	kept := h.orphan[:0]
	for _, o := range h.orphan {
		if now.Before(o.until) {
			kept = append(kept, o)
			continue
		}
		if err := o.end(); err != nil {
			return err
		}
	}
	h.orphan = kept
	if h.now != nil && !h.now.alive() {
		h.log.say("%s has ended", h.now.name)
		if err := h.killAll(); err != nil {
			return err
		}
	}
	return h.start()
}

// killHandler kills the handler, which the host starts again.
func (h *hosts) killHandler() bool {
	pid := 0
	if h.now != nil {
		pid = h.now.child()
	}
	return pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil
}

// killAll is the loss of the machine: host and handler at once.
func (h *hosts) killAll() error {
	p := h.now
	h.now = nil
	if p == nil {
		return nil
	}
	return p.end()
}

// killHost kills the host only. Its handler lives on for a while.
func (h *hosts) killHost(until time.Time) error {
	p := h.now
	if p == nil {
		return nil
	}
	h.now = nil
	h.orphan = append(h.orphan, orphan{p, until})
	return p.signal(syscall.SIGKILL)
}

func (h *hosts) close() error {
	err := h.killAll()
	for _, o := range h.orphan {
		if failed := o.end(); err == nil {
			err = failed
		}
	}
	h.orphan = nil
	return err
}
