package funchost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// maxErrors is how many counted errors of the handler, each within Timing.ErrorWindow of the one before, end the host.
const maxErrors = 3

// exitRestart is the exit code with which a handler asks to be restarted.
const exitRestart = 200

// ErrHandlerGone is what Wait and every waiting invocation get once the host gave up restarting the handler.
var ErrHandlerGone = errors.New("exceeded the maximum number of restarts of the handler process")

// process keeps the handler process running (contract B).
type process struct {
	path     string
	args     []string
	dir      string
	env      []string
	port     int
	initTime time.Duration
	quiet    bool // stderr is information, not errors
	log      *slog.Logger
	output   io.Writer // may be nil
	now      func() time.Time
	timing   Timing
	client   *http.Client

	errors    int
	lastError time.Time

	mu      sync.Mutex
	current *instance
	final   error // set when no further instance will come
	stopped bool  // Close: the next exit is the last
}

// instance is one start of the handler; the very first current one, without a cmd, stands for "not started yet".
type instance struct {
	cmd      *exec.Cmd
	ready    chan struct{} // closed at the first HTTP answer
	done     chan struct{} // closed at the exit
	next     chan struct{} // closed when another instance is current, or none will come
	expected bool          // killed by the host for a timeout: the exit does not count
}

func newInstance(cmd *exec.Cmd) *instance {
	return &instance{cmd: cmd, ready: make(chan struct{}), done: make(chan struct{}), next: make(chan struct{})}
}

// newProcess works out what to run (contract B1-B3); it starts nothing.
func newProcess(a *app, s settings, cfg Config) (*process, error) {
	d := a.host.CustomHandler.Description
	dir := a.root
	if d.WorkingDirectory != "" {
		dir = s.expandKnown(d.WorkingDirectory)
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(a.root, dir)
		}
	}
	args := make([]string, len(d.Arguments))
	for i, arg := range d.Arguments {
		args[i] = s.expandKnown(arg)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return &process{
		path: executable(a.root, s.expandKnown(d.DefaultExecutablePath)), args: args, dir: dir,
		env: append(s.environ(), "FUNCTIONS_APP_ROOT_PATH="+a.root), port: port,
		initTime: a.host.CustomHandler.InitializationTimeout.or(30 * time.Second),
		quiet:    d.UseStdErrorStreamForErrorsOnly != nil && !*d.UseStdErrorStreamForErrorsOnly,
		log:      cfg.Logger, output: cfg.HandlerOutput, now: cfg.Now, timing: cfg.Timing,
		client:  &http.Client{Transport: &http.Transport{}},
		current: newInstance(nil),
	}, nil
}

// executable is the file below the root if there is one, else a name to be found in PATH.
func executable(root, path string) string {
	inRoot := path
	if !filepath.IsAbs(path) {
		inRoot = filepath.Join(root, path)
	}
	if _, err := os.Stat(inRoot); err == nil {
		return inRoot
	}
	return path
}

func freePort() (int, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("a port for the handler: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err = l.Close(); err != nil {
		return 0, fmt.Errorf("a port for the handler: %w", err)
	}
	return port, nil
}

func (p *process) url(path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", p.port, path) }

// run starts the handler and starts it again until stop, until it exits with 0, or until it failed too often.
// It returns the reason: nil after stop.
func (p *process) run(ctx context.Context) error {
	for {
		in, err := p.runOnce(ctx)
		p.client.CloseIdleConnections()
		again, final := p.afterExit(ctx, in, err)
		if !again {
			return final
		}
	}
}

// runOnce runs one instance to its end; nil if it could not even start.
func (p *process) runOnce(ctx context.Context) (*instance, error) {
	in, err := p.start(ctx)
	if err != nil {
		return nil, err
	}
	watch, cancel := context.WithCancel(ctx)
	var polling sync.WaitGroup
	polling.Go(func() { p.awaitAnswer(watch, in) })
	err = in.cmd.Wait()
	cancel()
	polling.Wait()
	close(in.done)
	if err != nil {
		err = fmt.Errorf("handler process: %w", err)
	}
	return in, err
}

// start launches an instance and makes it the current one.
func (p *process) start(ctx context.Context) (*instance, error) {
	id := uuid.NewString()
	port := strconv.Itoa(p.port)
	cmd := exec.Command(p.path, p.args...) //nolint:noctx // only SIGKILL from kill or stop ends it (contract B9)
	cmd.Dir = p.dir
	cmd.Env = append(slices.Clip(p.env),
		"FUNCTIONS_CUSTOMHANDLER_PORT="+port, "FUNCTIONS_HTTPWORKER_PORT="+port,
		"FUNCTIONS_CUSTOMHANDLER_WORKER_ID="+id, "FUNCTIONS_HTTPWORKER_ID="+id)
	cmd.Stdout = &lineWriter{line: func(s string) { p.line(ctx, s, slog.LevelInfo) }}
	cmd.Stderr = &lineWriter{line: func(s string) { p.line(ctx, s, p.stderrLevel(s)) }}
	cmd.WaitDelay = time.Second
	in := newInstance(cmd)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil, context.Canceled
	}
	p.log.InfoContext(ctx, "Starting worker process", slog.String("file", p.path), slog.Int("port", p.port))
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("failed to start the handler process %s: %w", p.path, err)
	}
	close(p.current.next)
	p.current = in
	return in, nil
}

// awaitAnswer polls the root of the handler until it answers anything at all (contract B4).
func (p *process) awaitAnswer(ctx context.Context, in *instance) {
	limit, cancel := context.WithTimeout(ctx, p.initTime)
	defer cancel()
	tick := time.NewTicker(p.timing.ReadyPoll)
	defer tick.Stop()
	for {
		if p.answers(limit) {
			p.log.InfoContext(ctx, "Handler is ready", slog.Int("pid", in.cmd.Process.Pid))
			close(in.ready)
			return
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			if ctx.Err() == nil {
				p.log.ErrorContext(ctx, "Reached the initialization timeout of the handler", slog.Duration("timeout", p.initTime))
				_ = in.cmd.Process.Kill() // fails only if it is gone already
			}
			return
		}
	}
}

func (p *process) answers(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url("/"), nil)
	if err != nil {
		return false
	}
	res, err := p.client.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, res.Body) // any answer will do, even a broken one
	_ = res.Body.Close()
	return true
}

// afterExit decides whether another instance follows (contract B6).
func (p *process) afterExit(ctx context.Context, in *instance, err error) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	code := -1
	if in != nil {
		code = in.cmd.ProcessState.ExitCode()
	}
	switch {
	case p.stopped:
		return false, p.finish(nil)
	case in != nil && in.expected, code == exitRestart:
		p.log.InfoContext(ctx, "Restarting the handler process", slog.Int("exit_code", code))
		return true, nil
	case code == 0:
		// The real host does nothing: it keeps listening and every later call fails with a refused connection.
		p.log.WarnContext(ctx, "Worker process exited with code 0 and is not restarted")
		return false, nil
	}
	p.log.ErrorContext(ctx, "Language Worker Process exited", slog.Int("exit_code", code), slog.Any("error", err))
	if p.countError() < maxErrors {
		return true, nil
	}
	return false, p.finish(fmt.Errorf("%w: %s exited with code %d", ErrHandlerGone, p.path, code))
}

func (p *process) countError() int {
	now := p.now()
	if now.Sub(p.lastError) > p.timing.ErrorWindow {
		p.errors = 0
	}
	p.errors, p.lastError = p.errors+1, now
	return p.errors
}

// finish says that no further instance will come. The caller holds mu.
func (p *process) finish(err error) error {
	p.final = err
	if p.final == nil {
		p.final = context.Canceled
	}
	close(p.current.next)
	return err
}

// awaitReady waits for an instance that answers (contract B5). An instance that exited with 0 is returned too: its
// calls fail with a refused connection.
func (p *process) awaitReady(ctx context.Context) (*instance, error) {
	for {
		p.mu.Lock()
		in, final, dying := p.current, p.final, p.current.expected
		p.mu.Unlock()
		if final != nil {
			return nil, final
		}
		select {
		case <-in.ready:
		case <-in.done:
		case <-in.next:
			continue
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the handler: %w", context.Cause(ctx))
		}
		if !dying && (!in.exited() || in.cmd.ProcessState.ExitCode() == 0) {
			return in, nil
		}
		select { // it failed and the next one is on its way
		case <-in.next:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the handler: %w", context.Cause(ctx))
		}
	}
}

func (in *instance) exited() bool {
	select {
	case <-in.done:
		return true
	default:
		return false
	}
}

// killForTimeout kills an instance without counting an error (contract B8).
func (p *process) killForTimeout(in *instance) {
	p.mu.Lock()
	in.expected = true
	p.mu.Unlock()
	_ = in.cmd.Process.Kill()
}

// stop kills the handler for good: SIGKILL, never SIGTERM (contract B9).
func (p *process) stop() {
	p.mu.Lock()
	p.stopped = true
	in := p.current
	p.mu.Unlock()
	if in.cmd != nil {
		_ = in.cmd.Process.Kill()
	}
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current.cmd == nil || p.current.exited() {
		return 0
	}
	return p.current.cmd.Process.Pid
}

func (p *process) stderrLevel(line string) slog.Level {
	switch {
	case p.quiet:
		return slog.LevelInfo
	case strings.Contains(strings.ToLower(line), "warn"):
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}

// line passes one line of the handler on: to the given writer, or else into the log (contract B7).
func (p *process) line(ctx context.Context, text string, level slog.Level) {
	if p.output == nil {
		p.log.LogAttrs(ctx, level, "Handler output", slog.String("line", text))
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// A terminal that went away must not stop the handler.
	_, _ = fmt.Fprintf(p.output, "[handler %s] %s\n", strings.ToLower(level.String()), text)
}

// lineWriter calls line for every complete line written to it.
type lineWriter struct {
	line    func(string)
	pending []byte
}

// Write never fails.
func (w *lineWriter) Write(b []byte) (int, error) {
	w.pending = append(w.pending, b...)
	for {
		i := bytes.IndexByte(w.pending, '\n')
		if i < 0 {
			return len(b), nil
		}
		w.line(strings.TrimRight(string(w.pending[:i]), "\r"))
		w.pending = w.pending[i+1:]
	}
}
