package arm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	emulator "github.com/pointsman/pointsman/emulator/arm"
)

// slow makes every write take ten seconds of the hand-driven clock.
func slow() time.Duration { return 10 * time.Second }

// tagged is a table body with a tag, so that each is a change.
func tagged(value string) string {
	return `{"location":"eastus","tags":{"v":"` + value + `"},"properties":{"routes":[` + appliance + `]}}`
}

func TestBusyTableIsRetryable(t *testing.T) {
	k := start(t, emulator.Config{WriteDuration: slow})
	seed(t, k, tagged("0"))
	k.do(t, http.MethodDelete, tableID+"/routes/a"+version, "")
	k.clock.advance(time.Second)
	for _, test := range []struct{ method, path, body string }{
		{http.MethodPut, tableID, tagged("2")},
		{http.MethodPatch, tableID, `{"tags":{}}`},
		{http.MethodDelete, tableID, ""},
		{http.MethodPut, tableID + "/routes/a", strings.Replace(appliance, "10.0.0.4", "10.0.0.5", 1)},
		{http.MethodDelete, tableID + "/routes/a", ""},
	} {
		got := k.do(t, test.method, test.path+version, test.body)
		want := `{"error":{"code":"RetryableError","message":"A retryable error occurred.","details":[{"code":` +
			`"RetryableErrorDueToAnotherOperation","message":"Operation DeleteRouteOperation is updating resource ` + tableID +
			`. The call can be retried in 9 seconds."}]}}`
		if got.status != http.StatusTooManyRequests || got.body != want || got.header.Get("Retry-After") != "9" {
			t.Errorf("%s %s: %d Retry-After %s\n got %s\nwant %s", test.method, test.path, got.status, got.header.Get("Retry-After"), got.body, want)
		}
	}
	k.clock.advance(9 * time.Second)
	if got := k.do(t, http.MethodPut, tableID+version, tagged("2")); got.status != http.StatusOK {
		t.Errorf("after the operation: %d %s", got.status, got.body)
	}
}

func TestBusyTableConflicts(t *testing.T) {
	k := start(t, emulator.Config{WriteDuration: slow, Busy: emulator.BusyConflict})
	k.do(t, http.MethodPut, tableID+version, tagged("1"))
	got := k.do(t, http.MethodPut, tableID+version, tagged("2"))
	if code, _ := got.code(t); got.status != http.StatusConflict || code != "AnotherOperationInProgress" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestBusyTableQueues(t *testing.T) {
	k := start(t, emulator.Config{WriteDuration: slow, Busy: emulator.BusyQueue})
	first := k.do(t, http.MethodPut, tableID+version, tagged("1"))
	second := k.do(t, http.MethodPut, tableID+version, tagged("2"))
	if second.status != http.StatusOK || second.state(t) != "Updating" {
		t.Fatalf("%d %s", second.status, second.body)
	}
	status := func() string {
		return k.do(t, http.MethodGet, first.header.Get("Azure-AsyncOperation"), "").body +
			k.do(t, http.MethodGet, second.header.Get("Azure-AsyncOperation"), "").body +
			k.do(t, http.MethodGet, tableID+version, "").state(t)
	}
	k.clock.advance(10 * time.Second)
	if got := status(); got != `{"status":"Succeeded"}{"status":"InProgress"}Updating` {
		t.Errorf("after the first: %s", got)
	}
	k.clock.advance(10 * time.Second)
	if got := status(); got != `{"status":"Succeeded"}{"status":"Succeeded"}Succeeded` {
		t.Errorf("after the second: %s", got)
	}
}

func TestFailedOperation(t *testing.T) {
	k := start(t, emulator.Config{})
	seed(t, k, tagged("1"))
	k.Faults().Script(emulator.Fault{Method: http.MethodPut, FailOperation: true})
	put := k.do(t, http.MethodPut, tableID+version, tagged("2"))
	poll := k.do(t, http.MethodGet, put.header.Get("Azure-AsyncOperation"), "")
	if code, _ := poll.code(t); put.status != http.StatusOK || poll.status != http.StatusOK || code == "" ||
		!strings.HasPrefix(poll.body, `{"status":"Failed","error":{`) {
		t.Errorf("PUT %d, poll %d %s", put.status, poll.status, poll.body)
	}
	if got := k.do(t, http.MethodGet, tableID+version, ""); got.state(t) != "Failed" || !strings.Contains(got.body, `"v":"2"`) {
		t.Errorf("%s", got.body)
	}
	if got := k.do(t, http.MethodPut, tableID+version, tagged("2")); got.state(t) != "Updating" {
		t.Errorf("a PUT of a failed table's content is taken for a no-op: %s", got.body)
	}
	if got := k.do(t, http.MethodGet, tableID+version, ""); got.state(t) != "Succeeded" {
		t.Errorf("after the repair: %s", got.body)
	}
}

func TestSupersededOperation(t *testing.T) {
	k := start(t, emulator.Config{})
	before := seed(t, k, tagged("1"))
	k.Faults().Script(emulator.Fault{Method: http.MethodPut, Count: 2, SupersedeOperation: true})
	put := k.do(t, http.MethodPut, tableID+version, tagged("2"))
	poll := k.do(t, http.MethodGet, put.header.Get("Azure-AsyncOperation"), "")
	if _, detail := poll.code(t); !strings.HasPrefix(poll.body, `{"status":"Canceled"`) ||
		detail != "CanceledAndSupersededDueToAnotherOperation" {
		t.Errorf("%s", poll.body)
	}
	got := k.do(t, http.MethodGet, tableID+version, "")
	if got.state(t) != "Succeeded" || !strings.Contains(got.body, `"v":"1"`) || got.etag(t) == before || got.etag(t) == put.etag(t) {
		t.Errorf("%s", got.body)
	}
	k.do(t, http.MethodPut, tableID+"2"+version, tagged("2"))
	if _, _, ok := k.Table(tableID + "2"); ok {
		t.Error("a superseded creation left a table")
	}
}

func TestThirdPartyEditSurvivesTheOperationInFlight(t *testing.T) {
	k := start(t, emulator.Config{WriteDuration: slow})
	k.Faults().Script(emulator.Fault{Method: http.MethodPut, SupersedeOperation: true})
	k.do(t, http.MethodPut, tableID+version, tagged("1"))
	edited := seed(t, k, tagged("2"))
	k.clock.advance(10 * time.Second)
	if body, etag, ok := k.Table(tableID); !ok || !strings.Contains(string(body), `"v":"2"`) || etag == edited {
		t.Errorf("%s", body)
	}
}

func TestNoOpETagKnob(t *testing.T) {
	k := start(t, emulator.Config{NoOpChangesETag: true})
	before := seed(t, k, tagged("1"))
	got := k.do(t, http.MethodPut, tableID+version, tagged("1"), "If-Match", before)
	if got.status != http.StatusOK || got.state(t) != "Succeeded" || got.etag(t) == before {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestRetryAfterOfOperations(t *testing.T) {
	k := start(t, emulator.Config{WriteDuration: func() time.Duration { return time.Hour }, RetryAfter: true})
	put := k.do(t, http.MethodPut, tableID+version, tagged("1"))
	waits := []string{put.header.Get("Retry-After")}
	for range 5 {
		waits = append(waits, k.do(t, http.MethodGet, put.header.Get("Azure-AsyncOperation"), "").header.Get("Retry-After"))
	}
	if want := []string{"10", "10", "10", "20", "40", "80"}; !slices.Equal(waits, want) {
		t.Errorf("%v, want %v", waits, want)
	}
}

func TestRefusalsByScope(t *testing.T) {
	k := start(t, emulator.Config{})
	seed(t, k, tagged("1"))
	lock := func() { k.Faults().Lock(strings.ToUpper(groupID)) }
	policy := func() { k.Faults().DenyPolicy(tableID) }
	right := func() { k.Faults().Forbid("somebody", tableID, http.MethodPut) }
	for _, test := range []struct {
		name             string
		make             func()
		put, get, remove int
		code, message    string
	}{
		{"lock", lock, http.StatusConflict, http.StatusOK, http.StatusConflict, "ScopeLocked", "The scope '" + tableID +
			"' cannot perform write operation because following scope(s) are locked: '" + strings.ToUpper(groupID) +
			"'. Please remove the lock and try again."},
		{"policy", policy, http.StatusForbidden, http.StatusOK, http.StatusAccepted, "RequestDisallowedByPolicy", "Resource 'hub' was disallowed by policy."},
		{"right", right, http.StatusForbidden, http.StatusOK, http.StatusAccepted, "AuthorizationFailed", "The client 'somebody' with object id " +
			"'somebody' does not have authorization to perform action 'Microsoft.Network/routeTables/write' over scope '" + tableID + "'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer k.Faults().Clear()
			test.make()
			put := k.do(t, http.MethodPut, tableID+version, tagged("2"))
			var body struct {
				Error struct{ Code, Message string }
			}
			decode(t, put.body, &body)
			if put.status != test.put || body.Error.Code != test.code || !strings.HasPrefix(body.Error.Message, test.message) {
				t.Errorf("PUT: %d %s", put.status, put.body)
			}
			if got := k.do(t, http.MethodGet, tableID+version, ""); got.status != test.get {
				t.Errorf("GET: %d", got.status)
			}
			if got := k.do(t, http.MethodPut, tableID+"2"+version, tagged("1")); test.name != "lock" && got.status >= 300 {
				t.Errorf("PUT of another table: %d", got.status)
			}
			if got := k.do(t, http.MethodDelete, tableID+version, ""); got.status != test.remove {
				t.Errorf("DELETE: %d", got.status)
			}
			k.Faults().Clear()
			seed(t, k, tagged("1"))
			if got := k.do(t, http.MethodPut, tableID+version, tagged("2")); got.status != http.StatusOK {
				t.Errorf("PUT afterwards: %d", got.status)
			}
		})
	}
}

func TestRefusalsAreLifted(t *testing.T) {
	k := start(t, emulator.Config{})
	f := k.Faults()
	f.Lock(groupID)
	f.Unlock(strings.ToLower(groupID))
	f.DenyPolicy(tableID)
	f.AllowPolicy(tableID)
	f.Forbid("", "", "")
	f.Permit("", "", "")
	if got := k.do(t, http.MethodPut, tableID+version, tagged("1")); got.status != http.StatusCreated {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestFaults checks {not applied, applied} x {error answer, no answer}.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault emulator.Fault
		want  string
	}{
		{"answer", emulator.Fault{Status: http.StatusBadGateway, Code: "X", DetailCode: "Y", Header: http.Header{"Retry-After": {"7"}}}, "1"},
		{"answer, applied", emulator.Fault{Status: http.StatusBadGateway, Code: "X", DetailCode: "Y", Header: http.Header{"Retry-After": {"7"}}, Applied: true}, "2"},
		{"dropped", emulator.Fault{DropConnection: true}, "1"},
		{"dropped, applied", emulator.Fault{DropConnection: true, Applied: true}, "2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := start(t, emulator.Config{})
			seed(t, k, tagged("1"))
			test.fault.Method, test.fault.PathContains = http.MethodPatch, "routetables/HUB"
			k.Faults().Script(test.fault)
			got, err := k.try(t.Context(), http.MethodPatch, tableID+version, `{"tags":{"v":"2"}}`)
			if test.fault.DropConnection != (err != nil) {
				t.Errorf("error %v", err)
			}
			if err == nil {
				if code, detail := got.code(t); got.status != http.StatusBadGateway || code != "X" || detail != "Y" || got.header.Get("Retry-After") != "7" {
					t.Errorf("%d %v %s", got.status, got.header, got.body)
				}
			}
			if body, _, _ := k.Table(tableID); !strings.Contains(string(body), `"v":"`+test.want+`"`) {
				t.Errorf("%s", body)
			}
			if calls := k.Calls(); len(calls) != 1 || calls[0].Status != got.status {
				t.Errorf("%+v", calls)
			}
		})
	}
}

func TestLatencyAndDelay(t *testing.T) {
	waits := make(chan time.Duration, 1)
	k := start(t, emulator.Config{
		AfterFunc: func(d time.Duration, f func()) func() bool {
			if d > 0 {
				waits <- d
				go f()
			}
			return func() bool { return true }
		},
	})
	seed(t, k, tagged("1"))
	k.Faults().Script(emulator.Fault{Delay: 3 * time.Second})
	k.do(t, http.MethodGet, tableID+version, "")
	if got := <-waits; got != 3*time.Second {
		t.Errorf("waited %v", got)
	}
}

func TestWaitEndsWithTheClient(t *testing.T) {
	k := start(t, emulator.Config{})
	k.Faults().Script(emulator.Fault{Method: http.MethodGet, Delay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := k.try(ctx, http.MethodGet, tableID+version, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestAClientThatGaveUpIsNotAnswered: the connection ends without the empty 200 that a handler has given which returns without a word.
func TestAClientThatGaveUpIsNotAnswered(t *testing.T) {
	k := start(t, emulator.Config{})
	k.Faults().Script(emulator.Fault{Delay: time.Hour})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	defer func() {
		if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // net/http compares so
			t.Errorf("the handler ended with %v", p)
		}
	}()
	k.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(gone, http.MethodGet, tableID, nil))
}

func TestConfigThatCannotBeRight(t *testing.T) {
	_, err := emulator.Start(emulator.Config{PageSize: -1, Busy: 7})
	if want := "ARM emulator: config: PageSize is -1: it must be 0 or more; Busy is 7: it must be a BusyMode, or 0"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestFaultSelection(t *testing.T) {
	k := start(t, emulator.Config{})
	seed(t, k, tagged("1"))
	k.Faults().Script(
		emulator.Fault{Method: http.MethodGet, PathContains: "hub", Skip: 1, Count: 2, Status: 500},
		emulator.Fault{Method: http.MethodGet, Count: -1, Skip: 3, Status: 503},
	)
	var statuses []string
	for range 7 {
		statuses = append(statuses, strconv.Itoa(k.do(t, http.MethodGet, tableID+version, "").status))
	}
	if got := strings.Join(statuses, " "); got != "200 500 500 200 200 503 503" {
		t.Errorf("%s", got)
	}
}

func TestCallLog(t *testing.T) {
	k := start(t, emulator.Config{MaxCalls: 3})
	etag := seed(t, k, tagged("1"))
	k.do(t, http.MethodGet, tableID+version, "")
	put := k.do(t, http.MethodPut, tableID+version, tagged("2"), "If-Match", etag)
	k.do(t, http.MethodGet, put.header.Get("Azure-AsyncOperation"), "")
	calls := k.Calls()
	if len(calls) != 3 {
		t.Fatalf("%+v", calls)
	}
	get, write := calls[0], calls[1]
	if get.Operation != "routeTables.Get" || get.ETag != etag || get.Status != http.StatusOK || get.Principal != "somebody" || !get.At.Equal(k.clock.Now()) {
		t.Errorf("%+v", get)
	}
	if write.Operation != "routeTables.CreateOrUpdate" || write.IfMatch != etag || string(write.Body) != tagged("2") || write.Path != tableID {
		t.Errorf("%+v", write)
	}
	if calls[2].Operation != "operations.Get" {
		t.Errorf("%+v", calls[2])
	}
	k.do(t, http.MethodGet, tableID+"/routes/a"+version, "")
	if calls = k.Calls(); len(calls) != 3 || calls[0].Operation != "routeTables.CreateOrUpdate" || calls[2].Operation != "routes.Get" {
		t.Errorf("%+v", calls)
	}
	k.ResetCalls()
	if calls = k.Calls(); len(calls) != 0 {
		t.Errorf("%+v", calls)
	}
}

func TestEvents(t *testing.T) {
	k := start(t, emulator.Config{WriteDuration: slow})
	var got []string
	k.Observe(func(e emulator.Event) {
		got = append(got, e.At.Format("05 ")+e.Kind.String()+" "+tag(t, e.Before)+">"+tag(t, e.After))
	})
	seed(t, k, tagged("1"))
	k.do(t, http.MethodPut, tableID+version, tagged("2"))
	k.clock.advance(15 * time.Second)
	k.Faults().Script(emulator.Fault{FailOperation: true}, emulator.Fault{SupersedeOperation: true})
	k.do(t, http.MethodPut, tableID+version, tagged("3"))
	k.clock.advance(15 * time.Second)
	k.do(t, http.MethodPut, tableID+version, tagged("4"))
	k.clock.advance(10 * time.Second)
	k.do(t, http.MethodDelete, tableID+version, "")
	k.clock.advance(10 * time.Second)
	k.Table(tableID)
	want := []string{
		"00 table seeded >1 Succeeded",
		"00 write accepted 1 Succeeded>2 Updating", "10 operation succeeded 2 Updating>2 Succeeded",
		"15 write accepted 2 Succeeded>3 Updating", "25 operation failed 3 Updating>3 Failed",
		"30 write accepted 3 Failed>4 Updating", "40 operation canceled 4 Updating>3 Failed",
		"40 write accepted 3 Failed>3 Deleting", "50 operation succeeded 3 Deleting>",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What ARM publishes: each write when it is done, by whom and to what; nothing of those that failed.
func TestNotifications(t *testing.T) {
	k := start(t, emulator.Config{WriteDuration: slow})
	var got []string
	k.Observe(func(e emulator.Event) {
		body := e.Notification()
		if body == nil {
			return
		}
		var n struct {
			ID, Subject, EventType string
			EventTime              time.Time
			Data                   struct {
				OperationName, ResourceURI, Status string
				Claims                             map[string]string
			}
		}
		decode(t, string(body), &n)
		if n.ID == "" || n.Subject != n.Data.ResourceURI || n.Data.Status != "Succeeded" || n.Data.Claims["appid"] != e.Principal {
			t.Errorf("%s", body)
		}
		got = append(got, fmt.Sprintf("%s %s %s %s by %s", n.EventTime.Format("05"), strings.TrimPrefix(n.EventType, "Microsoft.Resources."), strings.TrimPrefix(n.Subject, groupID), n.Data.OperationName, n.Data.Claims["appid"]))
	})
	seed(t, k, tagged("1"))
	k.do(t, http.MethodPut, tableID+version, tagged("2"))
	k.clock.advance(15 * time.Second)
	k.Faults().Script(emulator.Fault{FailOperation: true})
	k.do(t, http.MethodPut, tableID+version, tagged("3"))
	k.clock.advance(15 * time.Second)
	k.do(t, http.MethodPut, tableID+"/routes/a"+version, `{"properties":{"addressPrefix":"10.0.0.0/8","nextHopType":"None"}}`)
	k.clock.advance(10 * time.Second)
	k.do(t, http.MethodDelete, tableID+"/routes/a"+version, "", "Authorization", "Bearer kim")
	k.clock.advance(10 * time.Second)
	k.do(t, http.MethodPatch, tableID+version, `{"tags":{"v":"5"}}`)
	k.Table(tableID)
	const table = "/providers/Microsoft.Network/routeTables/hub"
	want := []string{
		"00 ResourceWriteSuccess " + table + " Microsoft.Network/routeTables/write by ",
		"10 ResourceWriteSuccess " + table + " Microsoft.Network/routeTables/write by somebody",
		"40 ResourceWriteSuccess " + table + "/routes/a Microsoft.Network/routeTables/routes/write by somebody",
		"50 ResourceDeleteSuccess " + table + "/routes/a Microsoft.Network/routeTables/routes/delete by kim",
		"50 ResourceWriteSuccess " + table + " Microsoft.Network/routeTables/write by somebody",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// tag returns a table's tag and state.
func tag(t *testing.T, body json.RawMessage) string {
	t.Helper()
	if body == nil {
		return ""
	}
	var table struct {
		Tags       struct{ V string }
		Properties struct{ ProvisioningState string }
	}
	decode(t, string(body), &table)
	return table.Tags.V + " " + table.Properties.ProvisioningState
}

func TestTokenBuckets(t *testing.T) {
	k := start(t, emulator.Config{Buckets: true, Limits: emulator.Limits{Reads: emulator.Bucket{Burst: 3, PerSecond: 1}, GlobalFactor: 2}})
	seed(t, k, tagged("1"))
	read := func(principal string) answer {
		return k.do(t, http.MethodGet, tableID+version, "", "Authorization", "Bearer "+principal)
	}
	for i := range 3 {
		got := read("a")
		own, all := got.header.Get("X-Ms-Ratelimit-Remaining-Subscription-Reads"), got.header.Get("X-Ms-Ratelimit-Remaining-Subscription-Global-Reads")
		if got.status != http.StatusOK || own != strconv.Itoa(2-i) || all != strconv.Itoa(5-i) {
			t.Errorf("read %d: %d, %s and %s left", i, got.status, own, all)
		}
	}
	got := read("a")
	want := `{"error":{"code":"SubscriptionRequestsThrottled","message":"Number of 'read' requests for subscription '` + subscription +
		`' actor 'a' exceeded. Please try again after '1' seconds."}}`
	if got.status != http.StatusTooManyRequests || got.body != want || got.header.Get("Retry-After") != "1" ||
		got.header.Get("X-Ms-Ratelimit-Remaining-Subscription-Reads") != "0" {
		t.Errorf("%d %v %s", got.status, got.header, got.body)
	}
	if got = read("b"); got.status != http.StatusOK {
		t.Errorf("another principal: %d", got.status)
	}
	if got = k.do(t, http.MethodPut, tableID+version, tagged("2"), "Authorization", "Bearer a"); got.status != http.StatusOK {
		t.Errorf("a write draws on the reads: %d", got.status)
	}
	k.clock.advance(time.Second)
	if got = read("a"); got.status != http.StatusOK {
		t.Errorf("after the wait: %d", got.status)
	}
}

func TestGlobalBucket(t *testing.T) {
	k := start(t, emulator.Config{Buckets: true, Limits: emulator.Limits{Reads: emulator.Bucket{Burst: 1, PerSecond: 1}, GlobalFactor: 2}})
	seed(t, k, tagged("1"))
	for principal, want := range []int{200, 200, 429} {
		if got := k.do(t, http.MethodGet, tableID+version, "", "Authorization", "Bearer "+strconv.Itoa(principal)); got.status != want {
			t.Errorf("principal %d: %d, want %d", principal, got.status, want)
		}
	}
}

func TestNetworkWindow(t *testing.T) {
	k := start(t, emulator.Config{Buckets: true, Limits: emulator.Limits{WindowWrites: 3}})
	seed(t, k, tagged("0"))
	westus := groupID + "/providers/Microsoft.Network/routeTables/west"
	if err := k.PutTable(westus, json.RawMessage(`{"location":"westus"}`)); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		k.do(t, http.MethodPut, tableID+version, tagged(strconv.Itoa(i+1)))
	}
	k.do(t, http.MethodDelete, tableID+"/routes/a"+version, "")
	k.clock.advance(time.Minute)
	got := k.do(t, http.MethodPut, tableID+version, tagged("3"))
	if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != "240" {
		t.Errorf("fourth write: %d %v", got.status, got.header)
	}
	if got = k.do(t, http.MethodGet, tableID+version, ""); got.status != http.StatusOK {
		t.Errorf("a read: %d", got.status)
	}
	if got = k.do(t, http.MethodPut, westus+version, `{"location":"westus","tags":{"v":"1"}}`); got.status != http.StatusOK {
		t.Errorf("another region: %d %s", got.status, got.body)
	}
	k.clock.advance(4 * time.Minute)
	if got = k.do(t, http.MethodPut, tableID+version, tagged("3")); got.status != http.StatusOK {
		t.Errorf("the next window: %d %s", got.status, got.body)
	}
}

func TestReadsHaveAWindowOfTheirOwn(t *testing.T) {
	k := start(t, emulator.Config{Buckets: true, Limits: emulator.Limits{WindowWrites: 1, WindowReads: 2}})
	seed(t, k, tagged("0"))
	k.do(t, http.MethodPut, tableID+version, tagged("1"))
	for i, want := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
		if got := k.do(t, http.MethodGet, tableID+version, ""); got.status != want {
			t.Errorf("read %d: %d, want %d", i, got.status, want)
		}
	}
}

func TestDocumentedLimits(t *testing.T) {
	k := start(t, emulator.Config{Buckets: true})
	seed(t, k, tagged("0"))
	writes := 0
	for k.do(t, http.MethodPatch, tableID+version, `{"tags":{}}`).status == http.StatusOK {
		writes++
	}
	reads := 0
	for k.do(t, http.MethodGet, tableID+version, "").status == http.StatusOK {
		reads++
	}
	// start has already drawn one write.
	if writes != 199 || reads != 250 {
		t.Errorf("%d writes, %d reads", writes, reads)
	}
}
