package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/emulator/internal/web"
)

func request(method, path string) *http.Request {
	return httptest.NewRequestWithContext(context.Background(), method, path, nil)
}

func TestFaultsHitWhatTheyMatch(t *testing.T) {
	for _, test := range []struct {
		name   string
		faults []web.Fault
		want   string // the statuses of GET /Hub/a, PUT /hub/a, GET /hub/b, and the same again
	}{
		{"nothing", nil, "0 0 0 0 0 0"},
		{"the next", []web.Fault{{Status: 500}}, "500 0 0 0 0 0"},
		{"all", []web.Fault{{Status: 500, Count: -1}}, "500 500 500 500 500 500"},
		{"by method, in any case", []web.Fault{{Method: "put", Status: 500, Count: 2}}, "0 500 0 0 500 0"},
		{"by path, in any case", []web.Fault{{PathContains: "hub/A", Status: 500, Count: 3}}, "500 500 0 500 0 0"},
		{"after some", []web.Fault{{Method: "GET", Skip: 1, Status: 500}}, "0 0 500 0 0 0"},
		{"the first that is not used up", []web.Fault{{Status: 500}, {Method: "GET", Status: 501}, {Status: 502}}, "500 502 501 0 0 0"},
		{"a hit is not counted by the next", []web.Fault{{Status: 500, Count: 2}, {Skip: 1, Status: 501}}, "500 500 0 501 0 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var f web.Faults
			f.Script(test.faults...)
			var got []string
			for range 2 {
				for _, r := range []*http.Request{request("GET", "/Hub/a"), request("PUT", "/hub/a"), request("GET", "/hub/b")} {
					got = append(got, fmt.Sprint(f.Take(r).Status))
				}
			}
			if text := strings.Join(got, " "); text != test.want {
				t.Errorf("%s, want %s", text, test.want)
			}
		})
	}
}

// TestEffects is the table of what a fault leaves of a request.
func TestEffects(t *testing.T) {
	for _, test := range []struct {
		fault          web.Fault
		applies, fails bool
	}{
		{web.Fault{}, true, false},
		{web.Fault{FailOperation: true}, true, false},
		{web.Fault{Status: 500}, false, true},
		{web.Fault{Status: 500, Applied: true}, true, true},
		{web.Fault{DropConnection: true}, false, true},
		{web.Fault{DropConnection: true, Applied: true}, true, true},
	} {
		if a, f := test.fault.Applies(), test.fault.Fails(); a != test.applies || f != test.fails {
			t.Errorf("%+v: applies %t, fails %t", test.fault, a, f)
		}
	}
}

func TestOutageGoesBeforeTheScript(t *testing.T) {
	var f web.Faults
	f.Script(web.Fault{Status: 500})
	f.Outage(true)
	for range 2 {
		if got := f.Take(request("GET", "/")); !got.DropConnection || got.Applies() {
			t.Errorf("%+v", got)
		}
	}
	f.Outage(false)
	if got := f.Take(request("GET", "/")); got.Status != 500 {
		t.Errorf("the outage used the script up: %+v", got)
	}
	f.Script(web.Fault{Status: 500, Count: -1})
	f.Outage(true)
	f.Clear()
	if got := f.Take(request("GET", "/")); got.Fails() {
		t.Errorf("after Clear: %+v", got)
	}
}

func TestFailNextReplacesTheScript(t *testing.T) {
	var f web.Faults
	f.Script(web.Fault{Status: 404, Count: -1})
	f.FailNext(2, 503)
	for i, want := range []int{503, 503, 0} {
		if got := f.Take(request("GET", "/")).Status; got != want {
			t.Errorf("request %d: %d, want %d", i, got, want)
		}
	}
	f.FailNext(2, 503)
	f.FailNext(0, 503)
	if f.Take(request("GET", "/")).Fails() {
		t.Error("FailNext(0) ended nothing")
	}
}

func TestFaultsThatCannotBeMeant(t *testing.T) {
	for _, test := range []struct {
		fault web.Fault
		want  string
	}{
		{web.Fault{Skip: -1}, "Skip is -1: it must be 0 or more"},
		{web.Fault{Delay: -5}, "Delay is -5: it must be 0 or more"},
		{web.Fault{Status: 200}, "Status is 200: it must be 0, or an error's: 400 to 599"},
		{web.Fault{Status: 600}, "Status is 600: it must be 0, or an error's: 400 to 599"},
		{web.Fault{Status: 500, DropConnection: true}, "Status is 500: it must be 0 with DropConnection, which leaves nothing to answer on"},
		{web.Fault{Code: "Busy"}, `Code is "Busy": it must be empty without Status: no answer has it`},
		{web.Fault{DropConnection: true, Message: "gone"}, `Message is "gone": it must be empty without Status: no answer has it`},
		{web.Fault{Header: http.Header{"A": {"b"}}}, `Header is http.Header{"A":[]string{"b"}}: it must be empty without Status: no answer has it`},
		{web.Fault{Applied: true}, "Applied is true: it must be false without Status and DropConnection: what is answered as usual takes effect anyway"},
		{
			web.Fault{Skip: -2, Status: 999}, // all at once
			"Skip is -2: it must be 0 or more; Status is 999: it must be 0, or an error's: 400 to 599",
		},
		{web.Fault{FailOperation: true}, "FailOperation or SupersedeOperation is true: it must be false: this service has no operations"},
		{web.Fault{Status: 500, DetailCode: "D"}, `DetailCode is "D": it must be empty: the errors of this service have no details`},
	} {
		var f web.Faults
		if got, want := refusal(&f, web.Fault{Status: 500}, test.fault), "emulator: fault 2: "+test.want; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if f.Take(request("GET", "/")).Fails() {
			t.Errorf("%s: a part of the script is in force", test.want)
		}
	}
}

func TestOperationsThatCannotFailSo(t *testing.T) {
	for want, fault := range map[string]web.Fault{
		"SupersedeOperation is true: it must be false with FailOperation: an operation ends once":                           {FailOperation: true, SupersedeOperation: true},
		"Applied is false: it must be true with FailOperation or SupersedeOperation: without a write there is no operation": {FailOperation: true, Status: 500},
		`DetailCode is "D": it must be empty without Status: no answer has it`:                                              {DetailCode: "D"},
		"": {SupersedeOperation: true, DropConnection: true, Applied: true},
	} {
		f := web.Faults{Operations: true}
		if got := strings.TrimPrefix(refusal(&f, fault), "emulator: fault 1: "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// refusal returns what Script panics with, "" if it does not.
func refusal(f *web.Faults, faults ...web.Fault) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprint(p)
		}
	}()
	f.Script(faults...)
	return ""
}

// TestEveryFaultHitsAsOftenAsItSays is the law of the script: whatever is scripted together, each fault hits Count requests if enough come.
func TestEveryFaultHitsAsOftenAsItSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f web.Faults
		left := map[int]int{}
		requests := 0
		for i := range rapid.IntRange(1, 5).Draw(t, "faults") {
			fault := web.Fault{Status: 400 + i, Skip: rapid.IntRange(0, 3).Draw(t, "skip"), Count: rapid.IntRange(0, 3).Draw(t, "count")}
			left[fault.Status] = max(fault.Count, 1)
			requests += fault.Skip + left[fault.Status]
			f.Script(fault)
		}
		for range requests {
			left[f.Take(request("GET", "/")).Status]--
		}
		delete(left, 0)
		for status, n := range left {
			if n != 0 {
				t.Errorf("%d: %d hits too few", status, n)
			}
		}
	})
}
