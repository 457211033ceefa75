package funchost

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// maxBody bounds a request to the HTTP side, as FUNCTIONS_REQUEST_BODY_SIZE_LIMIT does (100 MB).
const maxBody = 100 << 20

// handler serves the HTTP side: webhooks, admin, and everything else as HTTP functions.
func (h *Host) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/runtime/webhooks/EventGrid", h.serveEventGrid)
	mux.HandleFunc("POST /admin/functions/{name}", h.serveAdmin)
	mux.HandleFunc("/", h.serveRoute)
	return mux
}

// serveEventGrid is the webhook of the Event Grid extension (contract F2).
func (h *Host) serveEventGrid(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("functionName")
	f := h.app.function(name)
	if f == nil || !f.trigger.is("eventGridTrigger") {
		http.Error(w, fmt.Sprintf("cannot find function: '%s'", name), http.StatusNotFound)
		return
	}
	if r.Method == http.MethodOptions { // CloudEvents 1.0 web hook validation
		w.Header().Set("WebHook-Allowed-Origin", r.Header.Get("WebHook-Request-Origin"))
		w.Header().Set("WebHook-Allowed-Rate", "*")
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "POST events here", http.StatusMethodNotAllowed)
		return
	}
	events, err := readEvents(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	kind := r.Header.Get("aeg-event-type")
	if kind == "" && strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents") {
		kind = "Notification"
	}
	switch {
	case strings.EqualFold(kind, "SubscriptionValidation"):
		answerValidation(w, events)
	case strings.EqualFold(kind, "Notification"):
		w.WriteHeader(h.deliverEvents(f, events))
	case strings.EqualFold(kind, "Unsubscribe"):
		h.cfg.Logger.InfoContext(r.Context(), "Event Grid unsubscribed", slog.String("function", f.name))
		w.WriteHeader(http.StatusAccepted)
	default:
		http.Error(w, fmt.Sprintf("unknown aeg-event-type %q", kind), http.StatusBadRequest)
	}
}

// readEvents reads an array of events, or one event.
func readEvents(w http.ResponseWriter, r *http.Request) ([]json.RawMessage, error) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	var b bytes.Buffer
	if err = json.Compact(&b, text); err != nil {
		return nil, fmt.Errorf("events are not JSON: %w", err)
	}
	var events []json.RawMessage
	if json.Unmarshal(b.Bytes(), &events) != nil {
		events = []json.RawMessage{b.Bytes()}
	}
	return events, nil
}

func answerValidation(w http.ResponseWriter, events []json.RawMessage) {
	var event struct {
		Data struct{ ValidationCode string }
	}
	if len(events) == 0 || json.Unmarshal(events[0], &event) != nil {
		http.Error(w, "no validation event", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(marshal(map[string]string{"validationResponse": event.Data.ValidationCode}))
}

// deliverEvents runs a batch as one invocation, or one invocation per event in parallel, and returns the status.
func (h *Host) deliverEvents(f *function, events []json.RawMessage) int {
	var bodies [][]byte
	if f.trigger.many() {
		bodies = append(bodies, h.eventBatchPayload(f, events).body())
	} else {
		for _, event := range events {
			bodies = append(bodies, h.eventPayload(f, event).body())
		}
	}
	errs := make([]error, len(bodies))
	var all sync.WaitGroup
	for i, body := range bodies {
		all.Go(func() { _, errs[i] = h.invoke(f, body, nil) })
	}
	all.Wait()
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return http.StatusInternalServerError
	}
	return http.StatusAccepted
}

// eventPayload builds the request of one event (contract C9).
func (h *Host) eventPayload(f *function, event json.RawMessage) payload {
	p := newPayload()
	p.data.set(f.trigger.Name, encode(event))
	p.metadata.setMetadata("data", eventData(event))
	p.addSys(f.name, h.cfg.Now())
	return p
}

// eventBatchPayload builds the request of a batch of events (contract C9).
func (h *Host) eventBatchPayload(f *function, events []json.RawMessage) payload {
	p := newPayload()
	data := make([]json.RawMessage, len(events))
	for i, event := range events {
		if data[i] = eventData(event); data[i] == nil {
			data[i] = json.RawMessage("null")
		}
	}
	p.data.set(f.trigger.Name, encode(events))
	p.metadata.setMetadata("data", data)
	p.addSys(f.name, h.cfg.Now())
	return p
}

func eventData(event json.RawMessage) json.RawMessage {
	var e struct {
		Data json.RawMessage `json:"data"`
	}
	if json.Unmarshal(event, &e) != nil {
		return nil
	}
	return e.Data
}

// serveAdmin runs a function once in the background (contract F3).
func (h *Host) serveAdmin(w http.ResponseWriter, r *http.Request) {
	f := h.app.function(r.PathValue("name"))
	if f == nil {
		http.NotFound(w, r)
		return
	}
	var request struct{ Input string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&request); err != nil {
		http.Error(w, "body must be {\"input\":\"...\"}: "+err.Error(), http.StatusBadRequest)
		return
	}
	p, err := h.adminPayload(f, request.Input)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.triggers.Go(func() { _, _ = h.invoke(f, p.body(), nil) }) // its outcome is logged and observed
	w.WriteHeader(http.StatusAccepted)
}

func (h *Host) adminPayload(f *function, input string) (payload, error) {
	t := &f.trigger
	switch {
	case t.is("timerTrigger"):
		s, err := parseSchedule(t.Schedule)
		if err != nil {
			return payload{}, err
		}
		return h.timerPayload(f, s, nil, false), nil
	case t.is("eventGridTrigger") && !t.many():
		if !json.Valid([]byte(input)) {
			return payload{}, fmt.Errorf("input of %s must be an event in JSON", f.name)
		}
		return h.eventPayload(f, json.RawMessage(input)), nil
	case t.is("serviceBusTrigger") && !t.many():
		p := newPayload()
		p.data.set(t.Name, encode(input))
		p.addSys(f.name, h.cfg.Now())
		promote(p.metadata, []byte(input))
		return p, nil
	default:
		return payload{}, fmt.Errorf("%s cannot be run by hand: only timers and triggers with cardinality one can", f.name)
	}
}

// route is one HTTP function's route.
type route struct {
	function *function
	segments []segment
}

// segment is a literal, or a parameter "{name}", "{name:constraint}", "{name?}" or "{*name}".
type segment struct {
	literal  string
	param    string
	pattern  *regexp.Regexp // nil: anything
	optional bool
	rest     bool
}

// newRoutes collects the routes of an app, literal ones before those with parameters.
func newRoutes(a *app) []route {
	prefix := strings.Trim(or(a.host.Extensions.HTTP.RoutePrefix, "api"), "/")
	var routes []route
	for _, f := range a.functions {
		if !f.trigger.is("httpTrigger") {
			continue
		}
		segments, err := parseRoute(strings.Trim(prefix+"/"+f.trigger.route(f.name), "/"))
		if err == nil { // else loadApp has refused it already
			routes = append(routes, route{f, segments})
		}
	}
	params := func(r route) (n int) {
		for _, s := range r.segments {
			if s.param != "" {
				n++
			}
		}
		return n
	}
	slices.SortStableFunc(routes, func(a, b route) int { return params(a) - params(b) })
	return routes
}

func parseRoute(template string) ([]segment, error) {
	if template == "" {
		return nil, nil
	}
	var segments []segment
	for text := range strings.SplitSeq(template, "/") {
		inner, isParam := strings.CutPrefix(text, "{")
		if !isParam {
			segments = append(segments, segment{literal: text})
			continue
		}
		s, err := parseParam(strings.TrimSuffix(inner, "}"))
		if err != nil {
			return nil, fmt.Errorf("route '%s': %w", template, err)
		}
		segments = append(segments, s)
	}
	return segments, nil
}

func parseParam(text string) (segment, error) {
	var s segment
	text, s.optional = strings.CutSuffix(text, "?")
	text, s.rest = strings.CutPrefix(text, "*")
	name, constraint, constrained := strings.Cut(text, ":")
	s.param = name
	if !constrained {
		return s, nil
	}
	expression, ok := map[string]string{
		"int": `^-?\d{1,10}$`, "long": `^-?\d{1,19}$`, "alpha": `(?i)^[a-z]*$`, "bool": `(?i)^(true|false)$`,
		"guid": `(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`,
	}[constraint]
	if !ok {
		return s, fmt.Errorf("unknown constraint '%s'", constraint)
	}
	s.pattern = regexp.MustCompile(expression)
	return s, nil
}

// match fits a path to the route and returns the parameters in the template's order.
func (r route) match(path string) (*object, bool) {
	params := &object{}
	parts := strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
	for i, s := range r.segments {
		if s.rest {
			return params.set(s.param, strings.Join(parts[min(i, len(parts)):], "/")), true
		}
		if i >= len(parts) {
			return params, s.optional
		}
		switch {
		case s.param == "":
			if !strings.EqualFold(s.literal, parts[i]) {
				return nil, false
			}
		case s.pattern != nil && !s.pattern.MatchString(parts[i]):
			return nil, false
		default:
			params.set(s.param, parts[i])
		}
	}
	return params, len(parts) == len(r.segments)
}

// serveRoute finds the HTTP function of a request; a wrong method is a 404 as any other miss (contract F3).
func (h *Host) serveRoute(w http.ResponseWriter, r *http.Request) {
	for _, route := range h.routes {
		params, ok := route.match(r.URL.Path)
		methods := route.function.trigger.Methods
		allowed := len(methods) == 0 || slices.ContainsFunc(methods, func(m string) bool { return strings.EqualFold(m, r.Method) })
		if ok && allowed {
			h.serveHTTPFunction(w, r, route.function, params)
			return
		}
	}
	w.WriteHeader(http.StatusNotFound)
}

func (h *Host) serveHTTPFunction(w http.ResponseWriter, r *http.Request, f *function, params *object) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if f.forwarded(&h.app.host) {
		h.forward(w, r, f, body)
		return
	}
	reply, err := h.invoke(f, h.httpPayload(f, r, params, body).body(), nil)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h.writeOutput(w, f, reply)
}

// forward passes the request on as it came and the answer back as it came (contract C11).
func (h *Host) forward(w http.ResponseWriter, r *http.Request, f *function, body []byte) {
	var got *answer
	err := h.observed(f, nil, func(inv *run) error {
		build := func(ctx context.Context) (*http.Request, error) {
			req, err := http.NewRequestWithContext(ctx, r.Method, h.process.url(r.URL.RequestURI()), bytes.NewReader(body))
			if err != nil {
				return nil, fmt.Errorf("forward request: %w", err)
			}
			req.Header = r.Header.Clone()
			req.Header.Del("Connection")
			return req, nil
		}
		return h.roundTrip(inv, build, func(a *answer) error { got = a; return nil })
	})
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	for k, values := range got.header {
		if k != "Content-Length" && k != "Transfer-Encoding" && k != "Connection" {
			w.Header()[k] = values
		}
	}
	w.WriteHeader(got.status)
	_, _ = w.Write(got.body)
}

// httpPayload builds the request of an HTTP function (contract C10).
func (h *Host) httpPayload(f *function, r *http.Request, params *object, body []byte) payload {
	p := newPayload()
	query := queryObject(r.URL.RawQuery)
	lists, flat := headerObjects(r)
	req := (&object{}).set("Url", "http://"+r.Host+r.URL.RequestURI()).set("Method", r.Method).set("Query", query).
		set("Headers", lists).set("Params", params).set("Identities", identities())
	if len(body) > 0 {
		req.set("Body", string(body))
	}
	p.data.set(f.trigger.Name, req)
	promote(p.metadata, body)
	for _, o := range []*object{query, params} {
		for _, kv := range o.fields {
			p.metadata.set(kv.key, string(kv.value)) // both hold JSON texts of strings already
		}
	}
	p.metadata.set("Query", query).set("Headers", flat)
	p.addSys(f.name, h.cfg.Now())
	return p
}

// queryObject keeps the order of the query; values of a repeated name are joined by commas.
func queryObject(raw string) *object {
	o := &object{}
	values, _ := url.ParseQuery(raw) // what is malformed is left out, as the host does
	for pair := range strings.SplitSeq(raw, "&") {
		escaped, _, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(escaped); err == nil && values[name] != nil {
			o.set(name, strings.Join(values[name], ","))
		}
	}
	return o
}

// headerObjects are the request's headers as lists for Data and flat, without the length, for Metadata.
func headerObjects(r *http.Request) (lists, flat *object) {
	all := r.Header.Clone()
	all.Set("Host", r.Host)
	if r.ContentLength > 0 {
		all.Set("Content-Length", fmt.Sprint(r.ContentLength))
	}
	lists, flat = &object{}, &object{}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		lists.set(k, all[k])
		if k != "Content-Length" {
			flat.set(k, strings.Join(all[k], ","))
		}
	}
	return lists, flat
}

// identities is the one identity of a local host: every caller is an administrator.
func identities() json.RawMessage {
	return json.RawMessage(`[{"AuthenticationType":"WebJobsAuthLevel","IsAuthenticated":true,"Actor":null,"BootstrapContext":null,` +
		`"Claims":[{"Issuer":"LOCAL AUTHORITY","OriginalIssuer":"LOCAL AUTHORITY","Properties":{},` +
		`"Type":"http://schemas.microsoft.com/2017/07/functions/claims/authlevel","Value":"Admin",` +
		`"ValueType":"http://www.w3.org/2001/XMLSchema#string"}],"Label":null,"Name":null,` +
		`"NameClaimType":"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",` +
		`"RoleClaimType":"http://schemas.microsoft.com/ws/2008/06/identity/claims/role"}]`)
}

// writeOutput answers the caller with the http output (contract D6).
func (h *Host) writeOutput(w http.ResponseWriter, f *function, r *reply) {
	i := slices.IndexFunc(f.outputs, func(b binding) bool { return b.is("http") })
	if i < 0 {
		return
	}
	b := &f.outputs[i]
	value := r.output(b.Name)
	if o, ok := parseObject(value); ok {
		h.writeResponse(w, f, b, o)
		return
	}
	h.writeBody(w, f, b, value)
}

// writeResponse answers with {statusCode|status, headers, body}.
func (h *Host) writeResponse(w http.ResponseWriter, f *function, b *binding, o *object) {
	status := http.StatusOK
	var body json.RawMessage
	for _, kv := range o.fields {
		switch strings.ToLower(kv.key) {
		case "statuscode", "status":
			var n json.Number // a number or a string that holds one
			if json.Unmarshal(kv.value, &n) == nil {
				if v, err := n.Int64(); err == nil && v >= 200 && v <= 999 {
					status = int(v)
				}
			}
		case "headers":
			headers, _ := parseObject(kv.value)
			writeHeaders(w, headers)
		case "body":
			body = kv.value
		}
	}
	if w.Header().Get("Content-Type") == "" && len(body) > 0 {
		w.Header().Set("Content-Type", contentType(body))
	}
	w.WriteHeader(status)
	h.writeBody(w, f, b, body)
}

func writeHeaders(w http.ResponseWriter, headers *object) {
	if headers == nil {
		return
	}
	for _, kv := range headers.fields {
		var text string
		if json.Unmarshal(kv.value, &text) != nil {
			text = string(kv.value)
		}
		w.Header().Set(kv.key, text)
	}
}

func contentType(body json.RawMessage) string {
	if body[0] == '"' {
		return "text/plain; charset=utf-8"
	}
	return "application/json; charset=utf-8"
}

func (h *Host) writeBody(w http.ResponseWriter, f *function, b *binding, body json.RawMessage) {
	if isNull(body) {
		return
	}
	out := []byte(body)
	var text string
	if json.Unmarshal(body, &text) == nil {
		var decoded bool
		if out, decoded = outputBytes(b, text); decoded {
			h.warnBase64(f, b)
		}
	}
	_, _ = w.Write(out)
}
