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
	"time"

	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/fault"
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

// Handler serves the functions by name, and GET / for the host's readiness probe. Each invocation writes one line to the log (package telemetry);
// export, if not nil, gets what is to be exported of it.
func Handler(functions map[string]Function, log *slog.Logger, export telemetry.Exporter) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, []byte("{}")) })
	for name, f := range functions {
		mux.Handle("POST /"+name, call{name, f, log, export})
	}
	return mux
}

type call struct {
	name     string
	function Function
	log      *slog.Logger
	export   telemetry.Exporter
}

// ServeHTTP runs one invocation.
func (c call) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	record := telemetry.New(c.name, r.Header.Get("X-Azure-Functions-InvocationId"), c.export, time.Now)
	body, err := c.guarded(telemetry.With(r.Context(), record), r)
	record.Close(r.Context(), c.log, err)
	if err != nil {
		answer(w, http.StatusInternalServerError, encode(map[string]string{"error": err.Error()}))
		return
	}
	answer(w, http.StatusOK, body)
}

// guarded runs the function and encodes its answer. A panic is a bug of ours, answered with 500 so that the messages come again, to a dead letter in
// the end.
func (c call) guarded(ctx context.Context, r *http.Request) (body []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.ErrorContext(ctx, "the function panicked", slog.String("function", c.name), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			body, err = nil, fault.New(fault.Bug, "%v", p)
		}
	}()
	outputs, err := c.run(ctx, r)
	if err != nil {
		return nil, err
	}
	if outputs == nil {
		outputs = map[string]any{}
	}
	return encode(response{Outputs: outputs, Logs: []string{}}), nil
}

func (c call) run(ctx context.Context, r *http.Request) (map[string]any, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read the invocation of %s: %w", c.name, err)
	}
	request, err := Decode(body)
	if err != nil {
		return nil, err
	}
	// The host never cancels the request of a call that it gave up, so the work is bounded by the functions themselves.
	return c.function(context.WithoutCancel(ctx), request)
}

// encode panics over what is no JSON: an output of ours that cannot be encoded.
func encode(body any) []byte {
	text, err := json.Marshal(body)
	if err != nil {
		panic("invocation: the answer cannot be encoded: " + err.Error())
	}
	return text
}

// answer answers. That the host is gone is no matter of ours.
func answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body))) // so that a flushed answer is a whole one
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
