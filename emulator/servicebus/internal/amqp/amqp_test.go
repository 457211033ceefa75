package amqp

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	goamqp "github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
)

// everyType is one or more values of every type, at the edges of their encodings.
func everyType() List {
	return List{
		nil, true, false, uint8(255), uint16(65535), uint32(0), uint32(255), uint32(256), uint64(0), uint64(255), uint64(math.MaxUint64),
		int8(-128), int16(-32768), int32(-128), int32(-129), int64(127), int64(128), int64(math.MinInt64), float32(1.5), 2.5,
		Char('é'), Timestamp(-1),
		UUID{1, 2, 3},
		Decimal32{1},
		Decimal64{2},
		Decimal128{3},
		[]byte{},
		bytes.Repeat([]byte{1}, 256), "", strings.Repeat("x", 256), Symbol("s"), Symbol(strings.Repeat("y", 300)),
		List{},
		List{int32(1), "two"},
		Map{{Key: "k", Value: int64(1)}, {Key: Symbol("s"), Value: nil}},
		Map{},
		Longs([]int64{1, -1, math.MaxInt64}), Strings([]string{"a", ""}), Symbols("x"),
		Array{Elem: codeBoolean, Items: []any{true, false}},
		Array{Elem: codeUUID, Items: []any{UUID{9}}},
		Array{Elem: codeMap32, Items: []any{Map{{Key: "a", Value: uint8(1)}}}},
		Array{Elem: codeList32, Items: []any{List{}, List{true}}},
		Array{Descriptor: Symbol("d"), Elem: codeInt, Items: []any{int32(5)}},
		Described{Descriptor: uint64(0x24), Value: List{}},
		Described{Descriptor: Symbol("d"), Value: Described{Descriptor: uint64(1), Value: "v"}},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, want := range everyType() {
		b := Append(nil, want)
		got, rest, err := Decode(append(b, 0xff))
		if err != nil || len(rest) != 1 {
			t.Errorf("%T %v: %v, %d bytes left", want, want, err, len(rest))
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%T: (-want +got)\n%s", want, d)
		}
	}
}

func TestEveryPrefixIsRefused(t *testing.T) {
	b := Append(nil, everyType())
	for n := range b {
		if _, _, err := Decode(b[:n]); !errors.Is(err, ErrDecode) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(b), err)
		}
	}
}

func TestMalformed(t *testing.T) {
	tests := map[string][]byte{
		"unknown constructor":      {0x01},
		"unknown fixed":            {0x57, 0},
		"odd map":                  {0xc1, 2, 1, 0x40},
		"too many elements":        {0xd0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40},
		"huge empty-element array": {0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40},
		"trailing bytes in list":   {0xc0, 3, 1, 0x40, 0x40},
		"size beyond the end":      {0xb0, 0xff, 0xff, 0xff, 0xff},
		"deep lists":               bytes.Repeat([]byte{0x00}, 100),
	}
	for name, b := range tests {
		if v, _, err := Decode(b); !errors.Is(err, ErrDecode) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

func TestFrameRoundTrip(t *testing.T) {
	one, mode, channel := uint32(1), SenderMixed, uint16(3)
	frames := []Performative{
		&Open{ContainerID: "c", Hostname: "h", MaxFrameSize: 512, ChannelMax: 9, IdleTimeout: 30000},
		&Begin{RemoteChannel: &channel, NextOutgoingID: 1, IncomingWindow: 2, OutgoingWindow: 3, HandleMax: 4},
		&Attach{Name: "n", Handle: 1, Role: RoleReceiver, SndSettleMode: &mode, Source: NewSource("s"), Target: NewTarget("t"), InitialDeliveryCount: &one, MaxMessageSize: 5, Properties: Map{{Key: Symbol("p"), Value: int64(1)}}},
		&Flow{NextIncomingID: &one, IncomingWindow: 1, NextOutgoingID: 2, OutgoingWindow: 3, Handle: &one, DeliveryCount: &one, LinkCredit: &one, Drain: true, Echo: true},
		&Transfer{Handle: 1, DeliveryID: &one, DeliveryTag: []byte{1}, MessageFormat: &one, Settled: true, More: true},
		&Disposition{Role: true, First: 1, Last: &one, Settled: true, State: &Outcome{Kind: Rejected, Error: &Error{Condition: "c", Description: "d", Info: Map{{Key: Symbol("i"), Value: "v"}}}}},
		&Disposition{First: 1, State: &Outcome{Kind: Modified, DeliveryFailed: true, UndeliverableHere: true, Annotations: Map{{Key: Symbol("a"), Value: nil}}}},
		&Disposition{First: 1, State: &Outcome{Kind: Accepted}}, &Disposition{First: 1, State: &Outcome{Kind: Released}},
		&Detach{Handle: 1, Closed: true, Error: &Error{Condition: "c"}}, &End{}, &Close{Error: &Error{Condition: "c"}},
		&SASLInit{Mechanism: "ANONYMOUS"},
	}
	for _, want := range frames {
		got, err := ReadFrame(bytes.NewReader(AppendFrame(nil, 7, want, []byte("payload"))))
		if err != nil {
			t.Errorf("%T: %v", want, err)
			continue
		}
		if d := cmp.Diff(Frame{Channel: 7, Body: want, Payload: []byte("payload")}, got, cmp.AllowUnexported(Terminus{})); d != "" {
			t.Errorf("%T: (-want +got)\n%s", want, d)
		}
	}
}

func TestWrongFieldTypeIsRefused(t *testing.T) {
	b := AppendFrame(nil, 0, &Detach{}, nil)[:frameHeaderSize]
	b = appendComposite(b, codeDetach, List{"not a handle"})
	b[3] = byte(len(b))
	if _, err := ReadFrame(bytes.NewReader(b)); !errors.Is(err, ErrDecode) {
		t.Errorf("got %v", err)
	}
}

// TestMessageAgainstGoAMQP checks that the other implementation reads what we write and the other way round, and that
// untouched sections keep their bytes.
func TestMessageAgainstGoAMQP(t *testing.T) {
	id, subject := "id", "subject"
	theirs := &goamqp.Message{
		Header:                &goamqp.MessageHeader{Durable: true, TTL: 5e9},
		Annotations:           goamqp.Annotations{"x-opt-partition-key": "k"},
		Properties:            &goamqp.MessageProperties{MessageID: id, Subject: &subject},
		ApplicationProperties: map[string]any{"i": int32(5), "l": int64(5), "u": uint8(5)},
		Data:                  [][]byte{[]byte("one"), []byte("two")},
	}
	encoded, err := theirs.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseMessage(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if m.Property(PropMessageID) != id || m.Property(PropSubject) != subject || string(m.Body()) != "onetwo" || *m.Header.TTL != 5000 {
		t.Errorf("read %+v", m)
	}
	if i := bytes.Index(encoded, []byte{0, 0x53, byte(sectionProperties)}); !bytes.HasSuffix(m.Append(nil), encoded[i:]) {
		t.Error("the bare message has changed")
	}
	m.Header.DeliveryCount = 3
	m.Annotations = m.Annotations.Set(Symbol("x-opt-sequence-number"), int64(1))
	m.SetApplication(m.Application().Set("added", true))
	var back goamqp.Message
	if err = back.UnmarshalBinary(m.Append(nil)); err != nil {
		t.Fatal(err)
	}
	theirs.Header.DeliveryCount = 3
	theirs.Annotations["x-opt-sequence-number"] = int64(1)
	theirs.ApplicationProperties["added"] = true
	if d := cmp.Diff(theirs.ApplicationProperties, back.ApplicationProperties); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(theirs.Annotations, back.Annotations); d != "" {
		t.Error(d)
	}
	if back.Header.DeliveryCount != 3 || back.Properties.MessageID != id || len(back.Data) != 2 {
		t.Errorf("read back %+v", back)
	}
}

func TestGUID(t *testing.T) {
	u := UUID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	if got, want := u.GUID(), [16]byte{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}; got != want {
		t.Errorf("got %v", got)
	}
	if u.String() != "00010203-0405-0607-0809-0a0b0c0d0e0f" {
		t.Error(u.String())
	}
}

// FuzzDecode checks that whatever can be decoded survives another round, and that nothing panics.
func FuzzDecode(f *testing.F) {
	for _, v := range everyType() {
		f.Add(Append(nil, v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, _, err := Decode(b)
		if err != nil {
			return
		}
		first := Append(nil, v)
		again, rest, err := Decode(first)
		if err != nil || len(rest) != 0 {
			t.Fatalf("%v: %v", v, err)
		}
		if !bytes.Equal(first, Append(nil, again)) {
			t.Errorf("%v became %v", v, again)
		}
	})
}

// FuzzReadFrame and FuzzParseMessage check that bad input is refused, not fatal.
func FuzzReadFrame(f *testing.F) {
	f.Add(AppendFrame(nil, 1, &Attach{Name: "n", Source: NewSource("q")}, nil))
	f.Add(AppendFrame(nil, 1, &Disposition{State: &Outcome{Kind: Rejected, Error: &Error{Condition: "c"}}}, nil))
	f.Add(EmptyFrame())
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = ReadFrame(bytes.NewReader(b)) })
}

func FuzzParseMessage(f *testing.F) {
	m := &Message{}
	m.SetProperty(PropMessageID, "id")
	m.SetApplication(Map{{Key: "k", Value: int32(1)}})
	m.SetValue(List{"x"})
	f.Add(m.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseMessage(b)
		if err != nil {
			return
		}
		again, err := ParseMessage(got.Append(nil))
		if err != nil || !bytes.Equal(again.Body(), got.Body()) {
			t.Errorf("read back: %v", err)
		}
	})
}
