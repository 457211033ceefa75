package funchost

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestC1_Request(t *testing.T) {
	for _, contentLength := range []bool{false, true} {
		r := timerRig(t, "")
		r.cfg.ContentLength, r.cfg.TraceParent = contentLength, contentLength
		r.startHost()
		r.admin("tick", "")
		i := r.ended()
		if !i.OK {
			t.Fatal(i.Err)
		}
		q := r.calls()[0]
		if q.Method != http.MethodPost || q.Path != "/Tick" || q.Proto != "HTTP/1.1" {
			t.Errorf("%s %s %s", q.Method, q.Path, q.Proto)
		}
		if q.Header.Get("X-Azure-Functions-InvocationId") != i.ID || !strings.HasPrefix(q.Header.Get("X-Azure-Functions-HostVersion"), "4.") ||
			!strings.HasPrefix(q.Header.Get("User-Agent"), "Azure-Functions-Host/4.") || q.Header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("headers %v", q.Header)
		}
		if q.Chunked == contentLength || (q.Length > 0) != contentLength {
			t.Errorf("ContentLength %t: chunked %t, length %d", contentLength, q.Chunked, q.Length)
		}
		trace := regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`).MatchString(q.Header.Get("traceparent"))
		if trace != contentLength {
			t.Errorf("traceparent %q", q.Header.Get("traceparent"))
		}
	}
}

func TestC2_FollowsRedirects(t *testing.T) {
	r := timerRig(t, "")
	r.answer(func(q recorded) scripted {
		if q.Path == "/Tick" {
			return scripted{Status: http.StatusFound, Location: "/elsewhere"}
		}
		return scripted{Body: `{}`}
	})
	r.startHost()
	r.admin("Tick", "")
	if i := r.ended(); !i.OK {
		t.Error(i.Err)
	}
	if calls := r.calls(); len(calls) != 2 || calls[1].Path != "/elsewhere" || calls[1].Method != http.MethodGet {
		t.Errorf("calls %+v", calls)
	}
}

func TestD1_D2_Answers(t *testing.T) {
	for name, c := range map[string]struct {
		answer scripted
		fails  string // "" succeeds
	}{
		"500 with a body": {scripted{Status: 500, Body: `{}`}, "500"},
		"404":             {scripted{Status: 404, Body: `{}`}, "404"},
		"text/plain":      {scripted{ContentType: "text/plain", Body: `{}`}, "media type"},
		"no content type": {scripted{ContentType: "-", Body: `{}`}, "media type"},
		"bad JSON":        {scripted{Body: `{"a":`}, "not an invocation result"},
		"an array":        {scripted{Body: `[]`}, "not an invocation result"},
		"text/json":       {scripted{ContentType: "text/json; charset=utf-8", Body: `{}`}, ""},
		"202":             {scripted{Status: 202, Body: `{}`}, ""},
		"empty":           {scripted{}, ErrNoResult.Error()},
		"null":            {scripted{Body: ` null `}, ErrNoResult.Error()},
		"204":             {scripted{Status: 204}, ErrNoResult.Error()},
	} {
		header := http.Header{"Content-Type": {c.answer.ContentType}}
		if c.answer.ContentType == "" {
			header.Set("Content-Type", "application/json")
		}
		_, err := decodeReply(&answer{or(statusOf(c.answer), 200), header, []byte(c.answer.Body)})
		if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: error %v, want %q", name, err, c.fails)
		}
	}
}

func statusOf(s scripted) *int {
	if s.Status == 0 {
		return nil
	}
	return &s.Status
}

func TestD2_EmptyAnswer(t *testing.T) {
	r := timerRig(t, "")
	r.answer(always(scripted{Body: ""}))
	r.startHost()
	r.admin("Tick", "")
	if i := r.ended(); !errors.Is(i.Err, ErrNoResult) {
		t.Errorf("error %v", i.Err)
	}
}

func TestD2_EmptyAnswerHangsInRealTime(t *testing.T) {
	r := timerRig(t, `,"functionTimeout":"00:00:00.2"`)
	r.cfg.RealTime = true
	r.answer(always(scripted{Body: ""}))
	r.startHost()
	r.admin("Tick", "")
	if i := r.ended(); !errors.Is(i.Err, ErrTimeout) {
		t.Errorf("error %v, want the function timeout", i.Err)
	}
	r.until("restart after the timeout", func() bool { return len(r.startRecords()) == 2 })
}

func TestD3_LogsOnSuccessOnly(t *testing.T) {
	r := timerRig(t, "")
	r.answer(always(scripted{Body: `{"LOGS":["first line"],"outputs":{},"returnvalue":null}`}))
	r.startHost()
	r.admin("Tick", "")
	i := r.ended()
	if !i.OK || !strings.Contains(r.log.String(), "id="+i.ID+` line="first line"`) {
		t.Errorf("%+v\n%s", i, r.log)
	}
	r.answer(always(scripted{Status: 500, Body: `{"Logs":["lost line"]}`}))
	r.admin("Tick", "")
	if i = r.ended(); i.OK || strings.Contains(r.log.String(), "lost line") {
		t.Errorf("%+v\n%s", i, r.log)
	}
}

func TestD4_Base64(t *testing.T) {
	for _, c := range []struct{ dataType, text, want string }{
		{"", "aGVsbG8=", "hello"},
		{"", "main", "\x99\xa8\xa7"}, // any text of the alphabet will do
		{"binary", "aGVsbG8=", "aGVsbG8="},
		{"", "hello", "hello"},
		{"", "", ""},
	} {
		got, decoded := outputBytes(&binding{DataType: c.dataType}, c.text)
		if string(got) != c.want || decoded != (c.want != c.text) {
			t.Errorf("%q with dataType %q: %q %t", c.text, c.dataType, got, decoded)
		}
	}
}

func TestD5_OutputMessages(t *testing.T) {
	h := bareHost()
	for value, want := range map[string][]string{
		`{"a":1}`:             {`{"a":1}`},
		`"text"`:              {"\xb5\xec\x6d"},
		`"plain text"`:        {"plain text"},
		`[{"a":1},"b b",3]`:   {`{"a":1}`, "b b", "3"},
		`"[{\"a\":1},\"b\"]"`: {`{"a":1}`, "b"},
	} {
		var got []string
		for _, body := range h.outputMessages(&function{}, &binding{}, []byte(value)) {
			got = append(got, string(body))
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%s: %q, want %q", value, got, want)
		}
	}
}

func TestD5_OutputFailureFailsTheFunction(t *testing.T) {
	r := newRig(t, map[string]string{"Tick/function.json": `{"bindings":[
		{"type":"timerTrigger","name":"timer","schedule":"0 0 0 1 1 *"},
		{"type":"serviceBus","direction":"out","name":"out","queueName":"q","connection":"NotSet"}]}`})
	r.answer(always(scripted{Body: `{"Outputs":{"OUT":{"a":1}}}`}))
	r.startHost()
	r.admin("Tick", "")
	if i := r.ended(); i.OK || !strings.Contains(i.Err.Error(), "NotSet") {
		t.Errorf("%+v", i)
	}
	r.answer(always(scripted{Body: `{"Outputs":{"out":null}}`}))
	r.admin("Tick", "")
	if i := r.ended(); !i.OK {
		t.Errorf("a null output failed: %v", i.Err)
	}
}

const httpFunction = `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","route":"devices/{id:int}","methods":["get","POST"]},{"type":"http","direction":"out","name":"res"}]}`

func TestD6_HTTPOutput(t *testing.T) {
	r := newRig(t, map[string]string{"Devices/function.json": httpFunction})
	r.startHost()
	for _, c := range []struct {
		answer scripted
		status int
		body   string
		header string // Content-Type
	}{
		{scripted{Body: `{"Outputs":{"res":{"statusCode":201,"headers":{"Content-Type":"text/x"},"body":"made it"}}}`}, 201, "made it", "text/x"},
		{scripted{Body: `{"Outputs":{"RES":{"status":"418","body":{"a":"<1>"}}}}`}, 418, `{"a":"<1>"}`, "application/json; charset=utf-8"},
		{scripted{Body: `{"Outputs":{"res":{"body":"aGVsbG8="}}}`}, 200, "hello", "text/plain; charset=utf-8"},
		{scripted{Body: `{"Outputs":{"res":"just text"}}`}, 200, "just text", ""},
		{scripted{Body: `{}`}, 200, "", ""},
		{scripted{Status: 503, Body: `{"Outputs":{"res":{"statusCode":201}}}`}, 500, "", ""},
	} {
		r.answer(always(c.answer))
		got := r.do(http.MethodPost, "/api/devices/7", `{"on":1}`, nil)
		if got.StatusCode != c.status || got.body != c.body || c.header != "" && got.Header.Get("Content-Type") != c.header {
			t.Errorf("%s: %d %q %v", c.answer.Body, got.StatusCode, got.body, got.Header)
		}
	}
}

func TestC11_Forwarding(t *testing.T) {
	r := newRig(t, map[string]string{
		"host.json":             strings.Replace(hostJSON(t, ""), `"customHandler":{`, `"customHandler":{"enableForwardingHttpRequest":true,`, 1),
		"Devices/function.json": httpFunction,
		"Mixed/function.json": `{"bindings":[{"type":"httpTrigger","name":"req"},{"type":"http","direction":"out","name":"res"},
			{"type":"serviceBus","direction":"out","name":"q","queueName":"q"}]}`,
	})
	r.answer(always(scripted{Status: 409, ContentType: "text/plain", Body: "as it is"}))
	r.startHost()
	got := r.do(http.MethodPost, "/api/devices/7?x=1", "the body", http.Header{"X-Mine": {"1"}})
	if got.StatusCode != 409 || got.body != "as it is" || got.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("%d %q %v", got.StatusCode, got.body, got.Header)
	}
	q := r.calls()[0]
	if q.Method != http.MethodPost || q.Path != "/api/devices/7?x=1" || q.Body != "the body" || q.Header.Get("X-Mine") != "1" ||
		q.Header.Get("X-Azure-Functions-InvocationId") == "" || q.Header.Get("X-Azure-Functions-HostVersion") == "" {
		t.Errorf("%+v", q)
	}
	r.do(http.MethodGet, "/api/Mixed", "", nil)
	if q = r.calls()[1]; q.Path != "/Mixed" || q.Method != http.MethodPost {
		t.Errorf("a function with another output was forwarded: %+v", q)
	}
}

func TestF3_RoutesAndMethods(t *testing.T) {
	r := newRig(t, map[string]string{
		"host.json":             hostJSON(t, `,"extensions":{"http":{"routePrefix":"v1"}}`),
		"Devices/function.json": httpFunction,
		"Status/function.json":  `{"bindings":[{"type":"httpTrigger","name":"req"},{"type":"http","direction":"out","name":"res"}]}`,
		"Fixed/function.json":   `{"bindings":[{"type":"httpTrigger","name":"req","route":"devices/0"},{"type":"http","direction":"out","name":"res"}]}`,
	})
	r.startHost()
	for _, c := range []struct {
		method, path string
		status       int
		function     string
	}{
		{http.MethodGet, "/v1/devices/7", 200, "/Devices"},
		{http.MethodDelete, "/v1/devices/7", 404, ""},
		{http.MethodGet, "/v1/devices/seven", 404, ""},
		{http.MethodGet, "/v1/devices", 404, ""},
		{http.MethodGet, "/v1/devices/7/8", 404, ""},
		{http.MethodGet, "/api/devices/7", 404, ""},
		{http.MethodGet, "/v1/devices/0", 200, "/Fixed"},
		{http.MethodPut, "/v1/status", 200, "/Status"},
	} {
		before := len(r.calls())
		got := r.do(c.method, c.path, "", nil)
		called := ""
		if calls := r.calls(); len(calls) > before {
			called = calls[before].Path
		}
		if got.StatusCode != c.status || called != c.function {
			t.Errorf("%s %s: %d, called %q", c.method, c.path, got.StatusCode, called)
		}
	}
}

func TestF3_RouteTemplates(t *testing.T) {
	for _, c := range []struct{ template, path, want string }{
		{"a/{x}/{y?}", "/a/1", `{"x":"1"}`},
		{"a/{x}/{y?}", "/a/1/2", `{"x":"1","y":"2"}`},
		{"a/{x}/{y?}", "/a", ""},
		{"a/{*rest}", "/a/1/2/3", `{"rest":"1/2/3"}`},
		{"{id:guid}", "/3b0c0b7e-6f0b-4f4c-9a0e-0d4b6f6f2c11", `{"id":"3b0c0b7e-6f0b-4f4c-9a0e-0d4b6f6f2c11"}`},
		{"{id:guid}", "/7", ""},
	} {
		segments, err := parseRoute(c.template)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := route{segments: segments}.match(c.path)
		if ok != (c.want != "") || ok && string(marshal(got)) != c.want {
			t.Errorf("%s on %s: %s %t", c.template, c.path, marshal(got), ok)
		}
	}
	if _, err := parseRoute("{x:nosuch}"); err == nil {
		t.Error("unknown constraint accepted")
	}
}

func TestF3_Admin(t *testing.T) {
	r := newRig(t, map[string]string{
		"Queue/function.json": queueFunction,
		"Batch/function.json": strings.Replace(queueFunction, `"queueName"`, `"cardinality":"many","queueName"`, 1),
	})
	r.startHost(func(h *Host) { h.openBus = func(*function) (bus, error) { return newFakeBus(), nil } })
	if got := r.admin("Queue", `{"op":"add"}`); got != http.StatusAccepted {
		t.Errorf("status %d", got)
	}
	if i := r.ended(); !i.OK || i.Function != "Queue" {
		t.Errorf("%+v", i)
	}
	if body := r.calls()[0].Body; !strings.Contains(body, `{"Data":{"message":"\"{\\\"op\\\":\\\"add\\\"}\""}`) || !strings.Contains(body, `"op":"\"add\""`) {
		t.Error(body)
	}
	if got := r.admin("Batch", `[]`); got != http.StatusBadRequest {
		t.Errorf("batch function: %d", got)
	}
	if got := r.admin("NoSuch", ""); got != http.StatusNotFound {
		t.Errorf("unknown function: %d", got)
	}
}

const gridFunction = `{"bindings":[{"type":"eventGridTrigger","direction":"in","name":"event"}]}`

func TestF2_EventGrid(t *testing.T) {
	r := newRig(t, map[string]string{
		"Grid/function.json": gridFunction,
		"Many/function.json": strings.Replace(gridFunction, `"name"`, `"cardinality":"many","name"`, 1),
	})
	r.startHost()
	post := func(function, kind, body string) response {
		return r.do(http.MethodPost, "/runtime/webhooks/EventGrid?functionName="+function, body, http.Header{"Aeg-Event-Type": {kind}})
	}
	const events = `[{"id":"e1","data":{}}, {"id":"e2","data":{}}]`

	got := post("grid", "SubscriptionValidation", `[{"id":"1","data":{"validationCode":"512d38b6"}}]`)
	if got.StatusCode != 200 || got.body != `{"validationResponse":"512d38b6"}` {
		t.Errorf("validation: %d %s", got.StatusCode, got.body)
	}
	if got = post("Grid", "Unsubscribe", `{}`); got.StatusCode != http.StatusAccepted {
		t.Errorf("unsubscribe: %d", got.StatusCode)
	}
	if got = post("Other", "Notification", events); got.StatusCode != http.StatusNotFound {
		t.Errorf("unknown function: %d", got.StatusCode)
	}
	if got = post("Grid", "Notification", `{`); got.StatusCode != http.StatusBadRequest || len(r.calls()) != 0 {
		t.Errorf("bad JSON: %d, %d calls", got.StatusCode, len(r.calls()))
	}

	both := make(chan struct{}, 2) // each event waits for the other: they run in parallel
	r.answer(func(recorded) scripted {
		both <- struct{}{}
		r.until("two events at once", func() bool { return len(both) == 2 })
		return scripted{Body: `{}`}
	})
	if got = post("Grid", "Notification", events); got.StatusCode != http.StatusAccepted {
		t.Errorf("notification: %d", got.StatusCode)
	}
	r.answer(func(q recorded) scripted {
		if strings.Contains(q.Body, `"e2"`) {
			return scripted{Status: 500}
		}
		return scripted{Body: `{}`}
	})
	if got = post("Grid", "Notification", events); got.StatusCode != http.StatusInternalServerError || len(r.calls()) != 4 {
		t.Errorf("failed notification: %d after %d calls", got.StatusCode, len(r.calls()))
	}
	r.answer(nil)
	if got = post("Many", "Notification", events); got.StatusCode != http.StatusAccepted || len(r.calls()) != 5 {
		t.Errorf("batch: %d after %d calls", got.StatusCode, len(r.calls()))
	}
}
