package invocation_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/functions/invocation"
)

func decode(t *testing.T, body string) invocation.Request {
	t.Helper()
	r, err := invocation.Decode([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// metadata is what the host says of the two messages of the batch in contract C6, without what the handler does not read.
const metadata = `"MessageReceiver":{"SessionLockedUntil":"2026-11-24T09:20:02.41+00:00"},"Client":{"FullyQualifiedNamespace":"sbns.servicebus.windows.net","IsClosed":false},
  "DeliveryCountArray":"[1,3]","DeadLetterSourceArray":"[null,null]",
  "EnqueuedTimeUtcArray":"[\"2026-11-24T09:15:01.402\",\"2026-11-24T09:15:01.417\"]",
  "MessageIdArray":"[\"m-1\",\"m-2\"]","SequenceNumberArray":"[41,42]","SubjectArray":"[\"route-change\",null]","SessionIdArray":"[\"dev-7\",\"dev-7\"]",
  "ApplicationPropertiesArray":"[{\"tenant\":\"t1\",\"attempt\":2},{}]",
  "sys":{"MethodName":"OnMessages","UtcNow":"2026-11-24T09:15:02.7719683Z","RandGuid":"3b0c0b7e-6f0b-4f4c-9a0e-0d4b6f6f2c11"}`

// However often the host wraps it, with dataType or without, with sessions or without: the messages are the same (functions-host contract C6, G3).
func TestBatchInEveryEncoding(t *testing.T) {
	want := []invocation.Message{
		{Body: []byte(`{"op":"add","n":1}`), ID: "m-1", DeliveryCount: 1, SequenceNumber: 41, EnqueuedAt: time.Date(2026, 11, 24, 9, 15, 1, 402e6, time.UTC)},
		{Body: []byte(`{"op":"del","n":2}`), ID: "m-2", DeliveryCount: 3, SequenceNumber: 42, EnqueuedAt: time.Date(2026, 11, 24, 9, 15, 1, 417e6, time.UTC)},
	}
	direct := strings.NewReplacer(`"[`, `[`, `]"`, `]`, `\"`, `"`).Replace(metadata)
	var twice map[string]any
	if err := json.Unmarshal([]byte("{"+metadata+"}"), &twice); err != nil {
		t.Fatal(err)
	}
	for key, value := range twice {
		if text, ok := value.(string); ok {
			twice[key] = quote(t, text)
		}
	}
	tests := []struct{ name, messages, metadata string }{
		{"dataType string", `"[\"{\\\"op\\\":\\\"add\\\",\\\"n\\\":1}\",\"{\\\"op\\\":\\\"del\\\",\\\"n\\\":2}\"]"`, metadata},
		{"no dataType", `"[{\"op\":\"add\",\"n\":1},{\"op\":\"del\",\"n\":2}]"`, metadata},
		{"an array of strings", `["{\"op\":\"add\",\"n\":1}","{\"op\":\"del\",\"n\":2}"]`, direct},
		{"an array of objects", `[{"op":"add","n":1},{"op":"del","n":2}]`, direct},
		{"wrapped once more", quote(t, `"[\"{\\\"op\\\":\\\"add\\\",\\\"n\\\":1}\",\"{\\\"op\\\":\\\"del\\\",\\\"n\\\":2}\"]"`), inside(quoteAll(t, twice))},
		{"each body wrapped twice", `["\"{\\\"op\\\":\\\"add\\\",\\\"n\\\":1}\"","\"{\\\"op\\\":\\\"del\\\",\\\"n\\\":2}\""]`, metadata},
		{"dates with a zone", `["{\"op\":\"add\",\"n\":1}","{\"op\":\"del\",\"n\":2}"]`, strings.NewReplacer(`.402\"`, `.402Z\"`, `09:15:01.417\"`, `10:15:01.417+01:00\"`).Replace(metadata)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decode(t, `{"Data":{"messages":`+tt.messages+`},"Metadata":{`+tt.metadata+`}}`).Batch("messages")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// inside takes the outer braces off.
func inside(object string) string { return object[1 : len(object)-1] }

func quote(t *testing.T, text string) string {
	t.Helper()
	return quoteAll(t, text)
}

func quoteAll(t *testing.T, v any) string {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// A body that is no JSON, or JSON that is no object, stays what it is: it is parked later, with its text.
func TestBodiesThatAreNoObjects(t *testing.T) {
	for in, want := range map[string]string{
		`"plain text"`:     "plain text",
		`"\"quoted\""`:     "quoted",
		`"\"half quoted"`:  `"half quoted`,
		`"17"`:             "17",
		`"null"`:           "null",
		`""`:               "",
		`"{\"a\":"`:        `{"a":`,
		`"  {\"a\": 1}  "`: `  {"a": 1}  `,
		`"<&>é"`:           "<&>é",
	} {
		got, err := decode(t, `{"Data":{"messages":[`+in+`]}}`).Batch("messages")
		if err != nil || len(got) != 1 || string(got[0].Body) != want {
			t.Errorf("%s: %+v, %v; want %q", in, got, err, want)
		}
	}
}

// A single message, with the metadata that the host promotes from its body (contract C5, C7).
func TestSingle(t *testing.T) {
	const metadata = `"DeliveryCount":"2","LockToken":"\"8a1f0b9e\"","EnqueuedTimeUtc":"2026-12-08T09:15:01","EnqueuedTime":"2026-12-08T09:15:01+00:00",
	  "MessageId":"\"m-1\"","SequenceNumber":"41","Subject":"\"route-change\"","ApplicationProperties":{"tenant":"t1"},"sys":{"UtcNow":"2026-12-08T09:15:02Z"},
	  "op":"\"add\"","n":"\"1\"","target":"\"spokes\""`
	want := invocation.Message{Body: []byte(`{"op":"add","n":1}`), ID: "m-1", DeliveryCount: 2, SequenceNumber: 41, EnqueuedAt: time.Date(2026, 12, 8, 9, 15, 1, 0, time.UTC)}
	for _, message := range []string{
		`"\"{\\\"op\\\":\\\"add\\\",\\\"n\\\":1}\""`, `"{\"op\":\"add\",\"n\":1}"`, `{"op":"add","n":1}`, quote(t, `"\"{\\\"op\\\":\\\"add\\\",\\\"n\\\":1}\""`),
	} {
		r := decode(t, `{"Data":{"message":`+message+`},"Metadata":{`+metadata+`}}`)
		got, err := r.Single("message")
		if err != nil {
			t.Fatalf("%s: %v", message, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", message, diff)
		}
		if now := r.UTCNow(); !now.Equal(time.Date(2026, 12, 8, 9, 15, 2, 0, time.UTC)) {
			t.Errorf("the host's clock: %s", now)
		}
	}
}

func TestMetadataThatDoesNotFit(t *testing.T) {
	for name, metadata := range map[string]string{
		"MessageIdArray has 1 values for 2 messages":       `"MessageIdArray":"[\"m-1\"]"`,
		"DeliveryCountArray has 3 values for 2 messages":   `"DeliveryCountArray":"[1,1,1]"`,
		"SequenceNumberArray[1]: found \"x\", want a numb": `"SequenceNumberArray":"[1,\"x\"]"`,
		"EnqueuedTimeUtcArray[0]: found \"yesterday\"":     `"EnqueuedTimeUtcArray":"[\"yesterday\",null]"`,
		"MessageIdArray: found 7, want an array":           `"MessageIdArray":7`,
	} {
		_, err := decode(t, `{"Data":{"messages":["a","b"]},"Metadata":{`+metadata+`}}`).Batch("messages")
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want %q", metadata, err, name)
		}
	}
	got, err := decode(t, `{"Data":{"messages":["a"]},"Metadata":{"MessageIdArray":"[null]","EnqueuedTimeUtcArray":[null]}}`).Batch("messages")
	if err != nil || got[0].ID != "" || !got[0].EnqueuedAt.IsZero() {
		t.Errorf("nulls: %v, %v", got, err)
	}
}

func TestOtherTriggers(t *testing.T) {
	timer := decode(t, `{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"IsPastDue":false}},"Metadata":{"sys":{"MethodName":"Sweep","UtcNow":"2026-11-24T09:15:00Z"}}}`)
	if timer.UTCNow().IsZero() {
		t.Error("the timer's call has no time")
	}
	http := decode(t, `{"Data":{"req":{"Url":"http://localhost:7071/api/status?domain=hub","Method":"GET","Query":{"domain":"hub"},"Headers":{"Host":["localhost:7071"]},"Params":{}}},"Metadata":{"domain":"\"hub\"","sys":{}}}`)
	if got := http.Query("req", "domain"); got != "hub" {
		t.Errorf("query domain: %q", got)
	}
	if got := http.Query("req", "format") + http.Query("other", "domain"); got != "" {
		t.Errorf("what is not there: %q", got)
	}
	event := decode(t, `{"Data":{"event":{"id":"9aeb0fdf","subject":"/x"}},"Metadata":{"data":{"url":"https://a"}}}`)
	if m, err := event.Single("event"); err != nil || !strings.Contains(string(m.Body), "9aeb0fdf") {
		t.Errorf("an Event Grid event: %q, %v", m.Body, err)
	}
	for _, body := range []string{"", "{}", "[]", "null", `{"Data":{}}`, `{"Data":7}`} {
		if _, err := invocation.Decode([]byte(body)); err == nil {
			t.Errorf("%q is no invocation", body)
		}
	}
	if _, err := timer.Batch("messages"); err == nil || !strings.Contains(err.Error(), "function.json") {
		t.Errorf("a missing binding: %v", err)
	}
	if _, err := timer.Single("message"); err == nil || !strings.Contains(err.Error(), "function.json") {
		t.Errorf("a missing binding: %v", err)
	}
}

// Whatever comes, decoding ends without a panic, and a batch has as many messages as bodies.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"Data":{"messages":"[\"{\\\"op\\\":1}\"]","message":"\"x\""},"Metadata":{"MessageIdArray":"[\"m\"]","DeliveryCount":"1"}}`))
	f.Add([]byte(`{"Data":{"messages":[{},null,"\"\\\"a\\\"\""],"message":{}},"Metadata":{"EnqueuedTimeUtcArray":"[null,null,\"2026-11-24T09:15:01\"]"}}`))
	f.Add([]byte(`{"Data":{"messages":"\"[1]\"","message":""},"Metadata":{"sys":{"UtcNow":"2026-11-24T09:15:01Z"}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := invocation.Decode(body)
		if err != nil {
			return
		}
		batch, err := r.Batch("messages")
		if err == nil {
			for _, m := range batch {
				if m.Body == nil {
					t.Error("a message without even an empty body")
				}
			}
		}
		if m, bad := r.Single("message"); bad == nil && m.Body == nil {
			t.Error("a message without even an empty body")
		}
		r.Query("req", "domain")
		r.UTCNow()
	})
}
