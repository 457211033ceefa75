package funchost

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// controlVariable switches the test binary into the recording handler; its value is the URL of the test's control
// server.
const controlVariable = "FUNCHOST_TEST_CONTROL"

func TestMain(m *testing.M) {
	if control := os.Getenv(controlVariable); control != "" {
		os.Exit(recordingHandler(control))
	}
	os.Exit(m.Run())
}

// recorded is one request that the handler got, or its start (path "start").
type recorded struct {
	Path     string
	Method   string
	Header   http.Header
	Chunked  bool
	Length   int64
	Proto    string
	Body     string
	Env      map[string]string
	Args     []string
	Dir      string
	Stdout   string `json:",omitempty"`
	instance int    // the how-manieth start of the handler
}

// scripted is what the handler is to do about it.
type scripted struct {
	Status      int // default 200
	ContentType string
	Location    string
	Body        string
	Stdout      string
	Stderr      string
	Exit        *int // end the process
}

// recordingHandler asks the test what to do at its start and for every request.
func recordingHandler(control string) int {
	ask := func(r recorded) scripted {
		text, _ := json.Marshal(r)
		res, err := http.Post(control, "application/json", bytes.NewReader(text)) //nolint:noctx // ends with the process
		if err != nil {
			os.Exit(99) // the test is gone
		}
		defer func() { _ = res.Body.Close() }()
		var s scripted
		if json.NewDecoder(res.Body).Decode(&s) != nil {
			os.Exit(98)
		}
		_, _ = os.Stdout.WriteString(s.Stdout)
		_, _ = os.Stderr.WriteString(s.Stderr)
		if s.Exit != nil {
			os.Exit(*s.Exit)
		}
		return s
	}
	env := map[string]string{}
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	dir, _ := os.Getwd()
	ask(recorded{Path: "start", Env: env, Args: os.Args[1:], Dir: dir})
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:"+env["FUNCTIONS_CUSTOMHANDLER_PORT"])
	if err != nil {
		return 97
	}
	_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // a test
		if r.URL.Path == "/" {
			w.WriteHeader(http.StatusNotFound) // any answer is a sign of life
			return
		}
		body, _ := io.ReadAll(r.Body)
		s := ask(recorded{
			Path: r.URL.RequestURI(), Method: r.Method, Header: r.Header, Chunked: len(r.TransferEncoding) > 0,
			Length: r.ContentLength, Proto: r.Proto, Body: string(body),
		})
		if s.ContentType != "-" {
			w.Header().Set("Content-Type", or(&s.ContentType, ""))
		}
		if s.Location != "" {
			w.Header().Set("Location", s.Location)
		}
		w.WriteHeader(s.Status)
		_, _ = io.WriteString(w, s.Body)
	}))
	return 96
}

// rig runs a host with the recording handler.
type rig struct {
	t    *testing.T
	cfg  Config
	host *Host

	mu       sync.Mutex
	starts   int
	requests []recorded
	script   func(recorded) scripted // nil: success
	onStart  func(recorded) scripted // nil: go on

	log      *logBuffer
	events   chan Invocation
	prepared []func(*Host)
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// hostJSON is a host.json for the recording handler with more top-level members.
func hostJSON(t *testing.T, more string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":` + string(marshal(exe)) + `}}` + more + `}`
}

// newRig stages an app root; files maps paths to contents.
func newRig(t *testing.T, files map[string]string) *rig {
	t.Helper()
	r := &rig{t: t, log: &logBuffer{}, events: make(chan Invocation, 1000)}
	control := httptest.NewServer(http.HandlerFunc(r.control))
	t.Cleanup(control.Close)
	root := t.TempDir()
	if files["host.json"] == "" {
		files["host.json"] = hostJSON(t, "")
	}
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r.cfg = Config{
		AppRoot: root, Environment: []string{controlVariable + "=" + control.URL, "PATH=" + os.Getenv("PATH")},
		Logger: slog.New(slog.NewTextHandler(r.log, nil)),
		Timing: Timing{ReadyPoll: 5 * time.Millisecond, RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond, Settle: 2 * time.Second},
	}
	return r
}

// prepare adds a change to the host before its start.
func (r *rig) prepare(p func(*Host)) *rig {
	r.prepared = append(r.prepared, p)
	return r
}

// startHost starts it; prepare may change the host before.
func (r *rig) startHost(prepare ...func(*Host)) *rig {
	r.t.Helper()
	h, err := newHost(r.t.Context(), r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range append(r.prepared, prepare...) {
		p(h)
	}
	h.Observe(func(i Invocation) { r.events <- i })
	if err = h.start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = h.Close() })
	r.host = h
	return r
}

func (r *rig) control(w http.ResponseWriter, req *http.Request) {
	text, err := io.ReadAll(req.Body)
	if err != nil || req.Method != http.MethodPost {
		return // the handler was killed while it wrote, or a host of another test looks for its own handler where this port was once
	}
	var got recorded
	if err = json.Unmarshal(text, &got); err != nil {
		r.t.Error(err)
	}
	r.mu.Lock()
	if got.Path == "start" {
		r.starts++
	}
	got.instance = r.starts
	r.requests = append(r.requests, got)
	script := r.script
	if got.Path == "start" {
		script = r.onStart
	}
	r.mu.Unlock()
	s := scripted{Body: `{}`}
	if script != nil {
		s = script(got)
	}
	if s.Status == 0 {
		s.Status = http.StatusOK
	}
	if s.ContentType == "" {
		s.ContentType = "application/json"
	}
	_ = json.NewEncoder(w).Encode(s)
}

// answer sets what the handler does about requests.
func (r *rig) answer(script func(recorded) scripted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script = script
}

// begin sets what the handler does at its start.
func (r *rig) begin(script func(recorded) scripted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onStart = script
}

// calls are the recorded requests without the starts.
func (r *rig) calls() (calls []recorded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.requests {
		if q.Path != "start" {
			calls = append(calls, q)
		}
	}
	return calls
}

func (r *rig) startRecords() (starts []recorded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.requests {
		if q.Path == "start" {
			starts = append(starts, q)
		}
	}
	return starts
}

// ended waits for the next end of an invocation.
func (r *rig) ended() Invocation {
	r.t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for {
		select {
		case i := <-r.events:
			if i.Ended {
				return i
			}
		case <-limit.C:
			r.t.Fatalf("no invocation ended; log:\n%s", r.log)
		}
	}
}

// until polls a condition.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	for !ok() {
		wait(ctx, 5*time.Millisecond)
		if ctx.Err() != nil {
			r.t.Fatalf("never: %s; log:\n%s", what, r.log)
		}
	}
}

// admin runs a function by hand.
func (r *rig) admin(name, input string) int {
	r.t.Helper()
	return r.do(http.MethodPost, "/admin/functions/"+name, string(marshal(map[string]string{"input": input})), nil).StatusCode
}

// response is a response with its body read.
type response struct {
	*http.Response
	body string
}

func (r *rig) do(method, path, body string, header http.Header) response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.host.URL()+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response{res, string(text)}
}

// always answers every request alike.
func always(s scripted) func(recorded) scripted { return func(recorded) scripted { return s } }

const (
	timerFunction = `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"0 0 0 1 1 *"}]}`
	queueFunction = `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"message","queueName":"q","connection":"Bus"}]}`
)
