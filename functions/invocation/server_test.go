package invocation_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/functions/invocation"
)

func serve(t *testing.T, functions map[string]invocation.Function, req *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	invocation.Handler(functions, slog.New(slog.DiscardHandler), nil).ServeHTTP(w, req)
	return w
}

func call(name string, body io.Reader) *http.Request {
	return httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/"+name, body)
}

// An answer without a JSON object makes the host wait until functionTimeout (functions-host contract D2): there is none.
func TestAnswerIsAlwaysAnObject(t *testing.T) {
	functions := map[string]invocation.Function{
		"Nothing": func(context.Context, invocation.Request) (map[string]any, error) { return nil, nil },
		"Output": func(context.Context, invocation.Request) (map[string]any, error) {
			return map[string]any{"res": 7}, nil
		},
		"Fails":  func(context.Context, invocation.Request) (map[string]any, error) { return nil, errors.New("no luck") },
		"Panics": func(context.Context, invocation.Request) (map[string]any, error) { panic("a bug") },
		"Odd": func(context.Context, invocation.Request) (map[string]any, error) {
			return map[string]any{"res": func() {}}, nil
		},
	}
	for _, tt := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"Nothing", `{"Data":{"timer":{}}}`, 200, `{"Outputs":{},"Logs":[],"ReturnValue":null}`},
		{"Output", `{"Data":{"timer":{}}}`, 200, `{"Outputs":{"res":7},"Logs":[],"ReturnValue":null}`},
		{"Fails", `{"Data":{"timer":{}}}`, 500, `{"error":"no luck"}`},
		{"Panics", `{"Data":{"timer":{}}}`, 500, `{"error":"a bug"}`},
		{"Odd", `{"Data":{"timer":{}}}`, 500, `cannot be encoded`},
		{"Nothing", `nonsense`, 500, `Functions host`},
	} {
		t.Run(tt.name+" "+tt.body, func(t *testing.T) {
			w := serve(t, functions, call(tt.name, strings.NewReader(tt.body)))
			var object map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &object); err != nil || object == nil {
				t.Errorf("no JSON object: %q", w.Body)
			}
			if w.Code != tt.status || w.Header().Get("Content-Type") != "application/json" || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("%d %s %s, want %d with %s", w.Code, w.Header().Get("Content-Type"), w.Body, tt.status, tt.want)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	functions := map[string]invocation.Function{"Sweep": func(context.Context, invocation.Request) (map[string]any, error) { return nil, nil }}
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/", http.StatusOK}, // the host's question whether the handler is ready (contract B4)
		{http.MethodGet, "/nothing", http.StatusNotFound},
		{http.MethodPost, "/Reconcile", http.StatusNotFound},
		{http.MethodGet, "/Sweep", http.StatusMethodNotAllowed},
	} {
		if w := serve(t, functions, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, nil)); w.Code != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, w.Code, tt.want)
		}
	}
}

// spaces never end.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestHugeBodyIsRefused(t *testing.T) {
	functions := map[string]invocation.Function{"Ingest": func(context.Context, invocation.Request) (map[string]any, error) {
		t.Error("the function was called")
		return nil, nil
	}}
	w := serve(t, functions, call("Ingest", spaces{}))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "too large") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// gone is a host that hung up.
type gone struct{ http.ResponseWriter }

func (gone) Write([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestHostThatHungUpIsNoPanic(t *testing.T) {
	var log strings.Builder
	h := invocation.Handler(map[string]invocation.Function{
		"Sweep": func(context.Context, invocation.Request) (map[string]any, error) { return nil, nil },
	}, slog.New(slog.NewTextHandler(&log, nil)), nil)
	h.ServeHTTP(gone{httptest.NewRecorder()}, call("Sweep", strings.NewReader(`{"Data":{"timer":{}}}`)))
	if strings.Count(log.String(), "\n") != 1 || strings.Contains(log.String(), "panic") {
		t.Errorf("log: %s", log.String())
	}
}

// The host does not cancel the work of a call that it gave up, and neither do we: half-done work is worse than work that is done twice.
func TestWorkOutlivesTheRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	functions := map[string]invocation.Function{"Sweep": func(ctx context.Context, _ invocation.Request) (map[string]any, error) { return nil, ctx.Err() }}
	if w := serve(t, functions, call("Sweep", strings.NewReader(`{"Data":{"timer":{}}}`)).WithContext(ctx)); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
