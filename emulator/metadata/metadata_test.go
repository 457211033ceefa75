package metadata_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/emulator/metadata"
)

func ask(t *testing.T, method, url, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, strings.TrimSpace(string(text))
}

func TestScheduledEvents(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	s, err := metadata.Start(metadata.Config{VM: "vm-a", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	url := s.URL() + "/metadata/scheduledevents?api-version=2020-07-01"
	expect := func(what string, wantStatus int, want, method, at, body string, header ...string) {
		t.Helper()
		if status, got := ask(t, method, at, body, header...); status != wantStatus || got != want {
			t.Errorf("%s: %d %s\nwant %d %s", what, status, got, wantStatus, want)
		}
	}
	list := func(what, want string) {
		t.Helper()
		expect(what, 200, want, "GET", url, "", "Metadata", "true")
	}
	list("nothing yet", `{"DocumentIncarnation":1,"Events":[]}`)
	id := s.Announce("Reboot", now.Add(15*time.Minute))
	list("announced", `{"DocumentIncarnation":2,"Events":[{"EventId":"c0ffee00-0000-0000-0000-000000000001","EventStatus":"Scheduled","EventType":"Reboot","ResourceType":"VirtualMachine",`+
		`"Resources":["vm-a"],"NotBefore":"Fri, 01 May 2026 12:15:00 GMT","Description":"announced by the emulator","EventSource":"Platform","DurationInSeconds":-1}]}`)
	expect("approved", 200, "", "POST", url, `{"StartRequests":[{"EventId":"`+id+`"}]}`, "Metadata", "true")
	started := `{"DocumentIncarnation":3,"Events":[{"EventId":"c0ffee00-0000-0000-0000-000000000001","EventStatus":"Started","EventType":"Reboot","ResourceType":"VirtualMachine",` +
		`"Resources":["vm-a"],"NotBefore":"","Description":"announced by the emulator","EventSource":"Platform","DurationInSeconds":-1}]}`
	list("so it starts", started)
	s.Complete(id)
	list("over", `{"DocumentIncarnation":4,"Events":[]}`)
	s.Announce("Freeze", now.Add(time.Minute), "vm-b", "vm-c")
	now = now.Add(time.Minute)
	if e := s.Events(); len(e) != 1 || !e[0].Started || e[0].Approved {
		t.Errorf("its time has come: %+v", e)
	}

	expect("no header", 400, `{"error":"Bad request. Required metadata header not specified"}`, "GET", url, "")
	expect("by a proxy", 400, `{"error":"Bad request. X-Forwarded-For is not allowed"}`, "GET", url, "", "Metadata", "true", "X-Forwarded-For", "10.0.0.1")
	expect("no version", 400, `{"error":"Bad request. api-version was not specified in the request"}`, "GET", s.URL()+"/metadata/scheduledevents", "", "Metadata", "true")
	expect("no such event", 400, `{"error":"Bad request. No event \"x\""}`, "POST", url, `{"StartRequests":[{"EventId":"x"}]}`, "Metadata", "true")
	expect("no request", 400, `{"error":"Bad request. StartRequests was expected"}`, "POST", url, `{}`, "Metadata", "true")
	expect("name", 200, "vm-a", "GET", s.URL()+"/metadata/instance/compute/name?api-version=2021-02-01&format=text", "", "Metadata", "true")
	s.FailNext(1, 429)
	expect("scripted", 429, `{"error":"scripted failure"}`, "GET", url, "", "Metadata", "true")
	list("once only", `{"DocumentIncarnation":6,"Events":[{"EventId":"c0ffee00-0000-0000-0000-000000000002","EventStatus":"Started","EventType":"Freeze","ResourceType":"VirtualMachine",`+
		`"Resources":["vm-b","vm-c"],"NotBefore":"","Description":"announced by the emulator","EventSource":"Platform","DurationInSeconds":-1}]}`)
}
