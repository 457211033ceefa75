package funchost

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// fixedNow is the time of every golden payload.
func fixedNow() time.Time { return time.Date(2026, 11, 24, 9, 15, 2, 771968300, time.UTC) }

// sameJSON compares two JSON texts by value. The texts inside strings, which the host encodes twice, must be identical.
func sameJSON(t *testing.T, got []byte, want string) {
	t.Helper()
	mask := regexp.MustCompile(`("RandGuid":")[^"]*|("Identifier":"[^"]*?-)[0-9a-f-]{36}`)
	decode := func(text string) (v any) {
		text = mask.ReplaceAllString(text, "${1}${2}MASKED")
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return v
	}
	if diff := cmp.Diff(decode(want), decode(string(got))); diff != "" {
		t.Errorf("payload (-want +got):\n%s\n%s", diff, got)
	}
}

// bareHost has what payloads need.
func bareHost() *Host { return &Host{cfg: Config{Now: fixedNow}.withDefaults(), app: &app{}} }

func busFor(name string, b binding) *busListener {
	return &busListener{
		host: bareHost(), function: &function{name: name, trigger: b}, client: clientObject("sbns.servicebus.windows.net"),
	}
}

func sampleMessages() []*message {
	first := &message{
		Body: []byte(`{"op":"add","n":1}`), DeliveryCount: 1, LockToken: uuid.MustParse("8a1f0b9e-2b6a-4d7e-9a53-0c9a3c1d7a01"),
		ExpiresAt: new(time.Date(2026, 12, 8, 9, 15, 1, 402e6, time.UTC)), EnqueuedTime: new(time.Date(2026, 11, 24, 9, 15, 1, 402e6, time.UTC)),
		MessageID: "m-1", ContentType: new("application/json"), SequenceNumber: new(int64(41)), Subject: new("route-change"),
		ApplicationProperties: map[string]any{"tenant": "t1", "attempt": 2}, SessionID: new("dev-7"), PartitionKey: new("dev-7"),
	}
	second := &message{
		Body: []byte(`{"op":"del","n":2}`), DeliveryCount: 3, LockToken: uuid.MustParse("8a1f0b9e-2b6a-4d7e-9a53-0c9a3c1d7a02"),
		ExpiresAt: new(time.Date(2026, 12, 8, 9, 15, 1, 417e6, time.UTC)), EnqueuedTime: new(time.Date(2026, 11, 24, 9, 15, 1, 417e6, time.UTC)),
		MessageID: "m-2", SequenceNumber: new(int64(42)), SessionID: new("dev-7"), PartitionKey: new("dev-7"),
	}
	return []*message{first, second}
}

// sessionLock is a receiver that only knows its session's lock.
type sessionLock struct {
	receiver
	until time.Time
}

func (s sessionLock) sessionUntil() (time.Time, bool) { return s.until, !s.until.IsZero() }

const (
	clientSample = `{"FullyQualifiedNamespace":"sbns.servicebus.windows.net","IsClosed":false,"TransportType":0,"Identifier":"sbns.servicebus.windows.net-4e773554-f6b7-4ea2-b07d-4c5fd5aba741"}`
	// Properties come sorted: the client library does not keep their order.
	batchSample = `{"Data":{"messages":"[\"{\\\"op\\\":\\\"add\\\",\\\"n\\\":1}\",\"{\\\"op\\\":\\\"del\\\",\\\"n\\\":2}\"]"},
 "Metadata":{
  "MessageReceiver":{"SessionLockedUntil":"2026-11-24T09:20:02.41+00:00"},
  "MessageSession":{"SessionLockedUntil":"2026-11-24T09:20:02.41+00:00"},
  "MessageActions":{"SessionLockedUntil":"2026-11-24T09:20:02.41+00:00"},
  "SessionActions":{"SessionLockedUntil":"2026-11-24T09:20:02.41+00:00"},
  "ReceiveActions":{},
  "Client":` + clientSample + `,
  "DeliveryCountArray":"[1,3]",
  "DeadLetterSourceArray":"[null,null]",
  "LockTokenArray":"[\"8a1f0b9e-2b6a-4d7e-9a53-0c9a3c1d7a01\",\"8a1f0b9e-2b6a-4d7e-9a53-0c9a3c1d7a02\"]",
  "ExpiresAtUtcArray":"[\"2026-12-08T09:15:01.402\",\"2026-12-08T09:15:01.417\"]",
  "ExpiresAtArray":"[\"2026-12-08T09:15:01.402+00:00\",\"2026-12-08T09:15:01.417+00:00\"]",
  "EnqueuedTimeUtcArray":"[\"2026-11-24T09:15:01.402\",\"2026-11-24T09:15:01.417\"]",
  "EnqueuedTimeArray":"[\"2026-11-24T09:15:01.402+00:00\",\"2026-11-24T09:15:01.417+00:00\"]",
  "MessageIdArray":"[\"m-1\",\"m-2\"]",
  "ContentTypeArray":"[\"application/json\",null]",
  "ReplyToArray":"[null,null]",
  "SequenceNumberArray":"[41,42]",
  "ToArray":"[null,null]",
  "SubjectArray":"[\"route-change\",null]",
  "LabelArray":"[\"route-change\",null]",
  "CorrelationIdArray":"[null,null]",
  "ApplicationPropertiesArray":"[{\"attempt\":2,\"tenant\":\"t1\"},{}]",
  "UserPropertiesArray":"[{\"attempt\":2,\"tenant\":\"t1\"},{}]",
  "SessionIdArray":"[\"dev-7\",\"dev-7\"]",
  "ReplyToSessionIdArray":"[null,null]",
  "PartitionKeyArray":"[\"dev-7\",\"dev-7\"]",
  "TransactionPartitionKeyArray":"[\"dev-7\",\"dev-7\"]",
  "sys":{"MethodName":"OnMessages","UtcNow":"2026-11-24T09:15:02.7719683Z","RandGuid":"3b0c0b7e-6f0b-4f4c-9a0e-0d4b6f6f2c11"}}}`
)

func TestC6_BatchPayload(t *testing.T) {
	l := busFor("OnMessages", binding{Name: "messages", Cardinality: "many", DataType: "string"})
	p, err := l.batchPayload(sessionLock{until: time.Date(2026, 11, 24, 9, 20, 2, 410e6, time.UTC)}, sampleMessages())
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, p.body(), batchSample)
}

func TestC6_BatchPayloadWithoutSession(t *testing.T) {
	l := busFor("OnMessages", binding{Name: "messages", Cardinality: "many", DataType: "string"})
	batch := sampleMessages()
	for _, m := range batch {
		m.SessionID, m.PartitionKey = nil, nil
	}
	p, err := l.batchPayload(sessionLock{}, batch)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(batchSample, `{"SessionLockedUntil":"2026-11-24T09:20:02.41+00:00"}`, `{}`)
	want = strings.ReplaceAll(want, `[\"dev-7\",\"dev-7\"]`, `[null,null]`)
	sameJSON(t, p.body(), want)
}

func TestC6_DataTypes(t *testing.T) {
	for dataType, want := range map[string]string{
		"":       `"[{\"op\":\"add\",\"n\":1},{\"op\":\"del\",\"n\":2}]"`,
		"binary": `"[\"eyJvcCI6ImFkZCIsIm4iOjF9\",\"eyJvcCI6ImRlbCIsIm4iOjJ9\"]"`,
		"string": `"[\"{\\\"op\\\":\\\"add\\\",\\\"n\\\":1}\",\"{\\\"op\\\":\\\"del\\\",\\\"n\\\":2}\"]"`,
	} {
		data, err := batchData(&binding{DataType: dataType}, sampleMessages())
		if err != nil {
			t.Fatal(err)
		}
		if got := string(marshal(data)); got != want {
			t.Errorf("dataType %q: %s, want %s", dataType, got, want)
		}
	}
}

func TestC7_SinglePayload(t *testing.T) {
	l := busFor("OnMessage", binding{Name: "message"})
	m := sampleMessages()[0]
	m.ApplicationProperties = map[string]any{"tenant": "t1"}
	sameJSON(t, l.singlePayload(sessionLock{}, m).body(), `{"Data":{"message":"\"{\\\"op\\\":\\\"add\\\",\\\"n\\\":1}\""},
 "Metadata":{"MessageReceiver":{},"MessageSession":{},"MessageActions":{},"SessionActions":{},"ReceiveActions":{},"Client":`+clientSample+`,
  "DeliveryCount":"1","LockToken":"\"8a1f0b9e-2b6a-4d7e-9a53-0c9a3c1d7a01\"",
  "ExpiresAtUtc":"2026-12-08T09:15:01","ExpiresAt":"2026-12-08T09:15:01+00:00",
  "EnqueuedTimeUtc":"2026-11-24T09:15:01","EnqueuedTime":"2026-11-24T09:15:01+00:00",
  "MessageId":"\"m-1\"","ContentType":"\"application/json\"","SequenceNumber":"41",
  "Subject":"\"route-change\"","Label":"\"route-change\"","ApplicationProperties":{"tenant":"t1"},"UserProperties":{"tenant":"t1"},
  "SessionId":"\"dev-7\"","PartitionKey":"\"dev-7\"","TransactionPartitionKey":"\"dev-7\"",
  "sys":{"MethodName":"OnMessage","UtcNow":"2026-11-24T09:15:02.7719683Z","RandGuid":""},"op":"\"add\"","n":"\"1\""}}`)
}

func TestC3_Encoding(t *testing.T) {
	date := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	for _, c := range []struct {
		value any
		want  string
	}{
		{&object{}, `{}`},
		{json.RawMessage(`{"b":1,"a":"<&>"}`), `{"b":1,"a":"<&>"}`},
		{json.RawMessage(`[1]`), `"[1]"`},
		{utcDate(date), `"2026-01-02T03:04:05"`},
		{offsetDate(date), `"2026-01-02T03:04:05+00:00"`},
		{[]utcDate{utcDate(date)}, `"[\"2026-01-02T03:04:05.678\"]"`},
		{[]byte("hi"), `"aGk="`},
		{"<&>", `"\"<&>\""`},
		{7, `"7"`},
		{true, `"true"`},
	} {
		if got := string(marshal(encode(c.value))); got != c.want {
			t.Errorf("enc(%v) = %s, want %s", c.value, got, c.want)
		}
	}
}

func TestC4_MetadataSkips(t *testing.T) {
	o := &object{}
	o.setMetadata("a", nil)
	o.setMetadata("MyTrigger", 1)
	o.setMetadata("b", 2)
	if got := string(marshal(o)); got != `{"b":"2"}` {
		t.Error(got)
	}
}

func TestC5_Promotion(t *testing.T) {
	o := (&object{}).set("messageid", "x")
	promote(o, []byte(`{"MessageId":"mine","n":1.50,"yes":true,"no":false,"o":{"a":[1]},"list":[1],"nil":null}`))
	want := `{"messageid":"\"mine\"","n":"\"1.50\"","yes":"\"True\"","no":"\"False\"","o":{"a":[1]}}`
	if got := string(marshal(o)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	o = &object{}
	promote(o, []byte(`[{"a":1}]`))
	promote(o, []byte(`{"a":1} trailing`))
	if got := string(marshal(o)); got != `{}` {
		t.Errorf("promoted from what is not an object: %s", got)
	}
}

func TestC8_TimerPayload(t *testing.T) {
	h := bareHost()
	f := &function{name: "Sweep", trigger: binding{Name: "timer"}}
	s, _ := parseSchedule("0 */5 * * * *")
	last := offsetDate(time.Date(2026, 11, 24, 9, 10, 0, 2145600, time.UTC))
	status := &scheduleStatus{Last: last, Next: offsetDate(time.Date(2026, 11, 24, 9, 15, 0, 0, time.UTC)), LastUpdated: last}
	want := `{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":{"Last":"2026-11-24T09:10:00.0021456+00:00","Next":"2026-11-24T09:15:00+00:00","LastUpdated":"2026-11-24T09:10:00.0021456+00:00"},"IsPastDue":false}},
 "Metadata":{"sys":{"MethodName":"Sweep","UtcNow":"2026-11-24T09:15:02.7719683Z","RandGuid":""}}}`
	sameJSON(t, h.timerPayload(f, s, status, false).body(), want)
	want = regexp.MustCompile(`"ScheduleStatus":\{[^}]*\}`).ReplaceAllString(want, `"ScheduleStatus":null`)
	want = strings.Replace(want, `"IsPastDue":false`, `"IsPastDue":true`, 1)
	sameJSON(t, h.timerPayload(f, s, nil, true).body(), want)
}

func TestC9_EventPayload(t *testing.T) {
	h := bareHost()
	f := &function{name: "OnEvent", trigger: binding{Name: "event"}}
	event := `{"id":"9aeb0fdf","topic":"/subscriptions/s/…","subject":"/blobServices/default/containers/c/blobs/b","eventType":"Microsoft.Storage.BlobCreated","eventTime":"2026-11-24T09:15:01.1Z","data":{"url":"https://a.blob.core.windows.net/c/b"},"dataVersion":"","metadataVersion":"1"}`
	sameJSON(t, h.eventPayload(f, json.RawMessage(event)).body(), `{"Data":{"event":`+event+`},
 "Metadata":{"data":{"url":"https://a.blob.core.windows.net/c/b"},"sys":{"MethodName":"OnEvent","UtcNow":"2026-11-24T09:15:02.7719683Z","RandGuid":""}}}`)
}

func TestC9_EventBatchPayload(t *testing.T) {
	f := &function{name: "OnEvents", trigger: binding{Name: "events"}}
	events := []json.RawMessage{json.RawMessage(`{"id":"e1","data":{}}`), json.RawMessage(`{"id":"e2","data":{}}`)}
	sameJSON(t, bareHost().eventBatchPayload(f, events).body(), `{"Data":{"events":"[{\"id\":\"e1\",\"data\":{}},{\"id\":\"e2\",\"data\":{}}]"},
 "Metadata":{"data":"[{},{}]","sys":{"MethodName":"OnEvents","UtcNow":"2026-11-24T09:15:02.7719683Z","RandGuid":""}}}`)
}

func TestC10_HTTPPayload(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost:7071/api/devices/7?x=1", strings.NewReader(`{"on":1}`))
	r.Header.Set("Content-Type", "application/json")
	f := &function{name: "Devices", trigger: binding{Name: "req"}}
	got := bareHost().httpPayload(f, r, (&object{}).set("id", "7"), []byte(`{"on":1}`)).body()
	sameJSON(t, got, `{"Data":{"req":{"Url":"http://localhost:7071/api/devices/7?x=1","Method":"POST","Query":{"x":"1"},
  "Headers":{"Content-Type":["application/json"],"Host":["localhost:7071"],"Content-Length":["8"]},"Params":{"id":"7"},
  "Identities":[{"AuthenticationType":"WebJobsAuthLevel","IsAuthenticated":true,"Actor":null,"BootstrapContext":null,"Claims":[{"Issuer":"LOCAL AUTHORITY","OriginalIssuer":"LOCAL AUTHORITY","Properties":{},"Type":"http://schemas.microsoft.com/2017/07/functions/claims/authlevel","Value":"Admin","ValueType":"http://www.w3.org/2001/XMLSchema#string"}],"Label":null,"Name":null,"NameClaimType":"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name","RoleClaimType":"http://schemas.microsoft.com/ws/2008/06/identity/claims/role"}],
  "Body":"{\"on\":1}"}},
 "Metadata":{"on":"\"1\"","x":"\"1\"","id":"\"7\"","Query":{"x":"1"},"Headers":{"Content-Type":"application/json","Host":"localhost:7071"},"sys":{"MethodName":"Devices","UtcNow":"2026-11-24T09:15:02.7719683Z","RandGuid":""}}}`)
}
