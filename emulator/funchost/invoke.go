package funchost

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// hostVersion is the version this package imitates.
const hostVersion = "4.1037.0"

// maxRedirects is .NET's MaxAutomaticRedirections.
const maxRedirects = 50

// exitNotice is how long a broken connection waits for the exit that broke it.
const exitNotice = time.Second

// ErrNoResult is the failure of an invocation whose handler answered 2xx with an empty body or null (contract D2).
var ErrNoResult = errors.New("handler returned no result; the real host hangs here until functionTimeout")

// ErrTimeout is the failure of an invocation that took longer than functionTimeout (contract B8).
var ErrTimeout = errors.New("timeout value exceeded")

// payload is the body of an invocation.
type payload struct {
	data     *object
	metadata *object
}

func newPayload() payload { return payload{&object{}, &object{}} }

// addSys adds the metadata that every invocation has (contract C4).
func (p payload) addSys(function string, now time.Time) {
	sys := (&object{}).set("MethodName", function).
		set("UtcNow", now.UTC().Format(time.DateOnly+"T"+time.TimeOnly+fraction)+"Z").
		set("RandGuid", uuid.NewString())
	p.metadata.set("sys", sys)
}

func (p payload) body() []byte {
	return marshal((&object{}).set("Data", p.data).set("Metadata", p.metadata))
}

// run is one invocation in progress.
type run struct {
	function   *function
	id         string
	messageIDs []string
}

// reply is a handler's decoded answer (contract D3).
type reply struct {
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue json.RawMessage
}

// output finds a binding's value ignoring case; nil if the handler gave none.
func (r *reply) output(name string) json.RawMessage {
	if name == "$return" {
		return r.ReturnValue
	}
	for k, v := range r.Outputs { // at most one key matches but for case; an exact one wins
		if strings.EqualFold(k, name) && (k == name || r.Outputs[name] == nil) {
			return v
		}
	}
	return nil
}

// invoke runs a function in payload form: POST, decode, publish the outputs. Observers see its start and end.
func (h *Host) invoke(f *function, body []byte, messageIDs []string) (*reply, error) {
	var r *reply
	err := h.observed(f, messageIDs, func(inv *run) error {
		var err error
		r, err = h.dispatch(inv, body)
		if err != nil {
			return err
		}
		for _, line := range r.Logs {
			h.cfg.Logger.InfoContext(h.base, "Handler log", slog.String("function", f.name), slog.String("id", inv.id), slog.String("line", line))
		}
		return h.publish(f, r)
	})
	return r, err
}

// observed wraps one invocation into its log lines and its two Invocation events.
func (h *Host) observed(f *function, messageIDs []string, do func(*run) error) error {
	inv := &run{function: f, id: uuid.NewString(), messageIDs: messageIDs}
	h.running.Add(1)
	defer h.running.Add(-1)
	start := time.Now()
	attrs := []any{slog.String("function", "Functions."+f.name), slog.String("id", inv.id)}
	h.cfg.Logger.InfoContext(h.base, "Executing", attrs...)
	h.notify(Invocation{Function: f.name, ID: inv.id, MessageIDs: messageIDs})
	err := do(inv)
	took := time.Since(start)
	attrs = append(attrs, slog.Duration("duration", took))
	if err != nil {
		h.cfg.Logger.ErrorContext(h.base, "Executed (Failed)", append(attrs, slog.Any("error", err))...)
	} else {
		h.cfg.Logger.InfoContext(h.base, "Executed (Succeeded)", attrs...)
	}
	h.notify(Invocation{
		Function: f.name, ID: inv.id, MessageIDs: messageIDs, Ended: true, OK: err == nil, Duration: took, Err: err,
	})
	return err
}

func (h *Host) dispatch(inv *run, body []byte) (*reply, error) {
	var r *reply
	build := func(ctx context.Context) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.process.url("/"+inv.function.name), bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("request to the handler: %w", err)
		}
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
		if !h.cfg.ContentLength {
			req.ContentLength = -1 // chunked
		}
		return req, nil
	}
	err := h.roundTrip(inv, build, func(a *answer) (err error) {
		r, err = decodeReply(a)
		return err
	})
	return r, err
}

// answer is a complete HTTP answer of the handler.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// roundTrip waits for the handler to be ready, sends one request and has the whole answer judged. Only functionTimeout
// ends the wait, and it ends the handler too (contract B5, B8).
func (h *Host) roundTrip(inv *run, build func(context.Context) (*http.Request, error), judge func(*answer) error) error {
	in, err := h.process.awaitReady(h.base)
	if err != nil {
		return err
	}
	ctx, cancel := h.timeout()
	defer cancel()
	a, err := h.send(ctx, inv, build)
	if err == nil {
		err = judge(a)
	} else {
		in.noticeExit(ctx)
	}
	if errors.Is(err, ErrNoResult) && h.cfg.RealTime {
		<-ctx.Done()
	}
	if err != nil && errors.Is(context.Cause(ctx), ErrTimeout) {
		h.cfg.Logger.ErrorContext(h.base, "Timeout value exceeded, killing the handler process",
			slog.String("function", inv.function.name), slog.String("id", inv.id))
		h.process.killForTimeout(in)
		return fmt.Errorf("%w by function '%s' (id %s) after %s", ErrTimeout, inv.function.name, inv.id, h.functionTimeout())
	}
	return err
}

// noticeExit gives the exit of a handler that broke a connection a moment to be seen, so that the next invocation waits
// for the restart instead of meeting the dead process.
func (in *instance) noticeExit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, exitNotice)
	defer cancel()
	select {
	case <-in.done:
	case <-ctx.Done():
	}
}

// timeout is the context of one request to the handler.
func (h *Host) timeout() (context.Context, context.CancelFunc) {
	limit := h.functionTimeout()
	if limit < 0 {
		return context.WithCancel(h.base)
	}
	return context.WithTimeoutCause(h.base, limit, ErrTimeout)
}

func (h *Host) functionTimeout() time.Duration {
	return h.app.host.FunctionTimeout.or(30 * time.Minute)
}

func (h *Host) send(ctx context.Context, inv *run, build func(context.Context) (*http.Request, error)) (*answer, error) {
	req, err := build(ctx)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Azure-Functions-InvocationId", inv.id)
	req.Header.Set("X-Azure-Functions-HostVersion", hostVersion)
	req.Header.Set("User-Agent", "Azure-Functions-Host/"+hostVersion)
	if h.cfg.TraceParent {
		req.Header.Set("traceparent", traceParent())
	}
	client := *h.process.client
	client.CheckRedirect = func(_ *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return nil
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the handler did not answer: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("the handler's answer broke off: %w", err)
	}
	return &answer{res.StatusCode, res.Header, body}, nil
}

// traceParent is a fresh sampled W3C trace context.
func traceParent() string {
	trace, span := uuid.New(), uuid.New()
	return fmt.Sprintf("00-%x-%x-01", trace[:], span[:8])
}

// decodeReply judges an answer (contract D1-D3).
func decodeReply(a *answer) (*reply, error) {
	if a.status < 200 || a.status > 299 {
		return nil, fmt.Errorf("response status code does not indicate success: %d (%s)", a.status, http.StatusText(a.status))
	}
	text := bytes.TrimSpace(a.body)
	if len(text) == 0 || string(text) == "null" {
		return nil, ErrNoResult
	}
	media, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || (media != "application/json" && media != "text/json") {
		return nil, fmt.Errorf("no MediaTypeFormatter is available to read the handler's answer of media type %q", a.header.Get("Content-Type"))
	}
	var r reply
	if err = json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("the handler's answer is not an invocation result: %w", err)
	}
	return &r, nil
}

// outputBytes is an output string as the host understands it: whatever decodes as base64 becomes bytes, unless the
// binding's dataType is binary (contract D4). The flag says that a text was taken for base64.
func outputBytes(b *binding, text string) ([]byte, bool) {
	if text != "" && !strings.EqualFold(b.DataType, "binary") {
		if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
			return raw, true
		}
	}
	return []byte(text), false
}

func (h *Host) warnBase64(f *function, b *binding) {
	h.cfg.Logger.WarnContext(h.base, "Output text decodes as base64: the host turns it into bytes",
		slog.String("function", f.name), slog.String("binding", b.Name))
}
