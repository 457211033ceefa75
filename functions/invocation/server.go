package invocation

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
)

// Function handles one invocation. Outputs are the values of its output bindings by name; nil means none. An error makes the host deliver
// the same messages again, at once and without back-off.
type Function func(ctx context.Context, r Request) (outputs map[string]any, err error)

// maxBody bounds an invocation: 1,000 messages of 256 KB cannot come, maxMessageBatchSize is set far below.
const maxBody = 64 << 20

// response is what the host wants: always a JSON object. An empty body or 204 makes the host wait until functionTimeout.
type response struct {
	Outputs     map[string]any `json:"Outputs"`
	Logs        []string       `json:"Logs"`
	ReturnValue any            `json:"ReturnValue"`
}

// Handler serves the functions by name, and GET / for the host's readiness probe.
func Handler(functions map[string]Function, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, struct{}{}) })
	for name, f := range functions {
		mux.Handle("POST /"+name, call{name, f, log})
	}
	return mux
}

type call struct {
	name     string
	function Function
	log      *slog.Logger
}

// ServeHTTP runs one invocation. A panic is a bug of ours, answered with 500 so that the messages come again, to a dead letter in the end.
func (c call) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	log := c.log.With(slog.String("function", c.name), slog.String("invocation", r.Header.Get("X-Azure-Functions-InvocationId")))
	defer func() {
		if p := recover(); p != nil {
			log.ErrorContext(r.Context(), "the function panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			answer(w, http.StatusInternalServerError, map[string]string{"error": fmt.Sprint(p)})
		}
	}()
	outputs, err := c.run(r)
	if err != nil {
		log.ErrorContext(r.Context(), "the invocation failed, its messages will come again", slog.Any("error", err))
		answer(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
		return
	}
	if outputs == nil {
		outputs = map[string]any{}
	}
	answer(w, http.StatusOK, response{Outputs: outputs, Logs: []string{}})
}

func (c call) run(r *http.Request) (map[string]any, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read the invocation of %s: %w", c.name, err)
	}
	request, err := Decode(body)
	if err != nil {
		return nil, err
	}
	// The host never cancels the request of a call that it gave up, so the work is bounded by the functions themselves.
	return c.function(context.WithoutCancel(r.Context()), request)
}

// answer encodes before it writes, so that what cannot be encoded ends as a panic and not as half an answer. That the host is gone is no
// matter of ours.
func answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic("invocation: the answer cannot be encoded: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text))) // so that a flushed answer is a whole one
	w.WriteHeader(status)
	_, _ = w.Write(text)
}
