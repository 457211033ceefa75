package kernel

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// explain writes what a message decodes to in one line.
func explain(m message) (string, error) {
	switch m.kind {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		r, err := decodeRoute(m.payload)
		verbs := map[verb]string{added: "added", appended: "appended", prepended: "prepended", replaced: "replaced", deleted: "deleted"}
		s := fmt.Sprintf("%s %v table %d metric %d tos %d protocol %d kind %d nexthop %d",
			verbs[verbOf(m.kind, m.flags)], r.prefix, r.table, r.metric, r.tos, r.protocol, r.kind, r.nexthop)
		for _, l := range r.legs {
			s += ", " + explainLeg(l)
		}
		return s, err
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		index, l, err := decodeLink(m.payload)
		return fmt.Sprintf("link %d %q state %d", index, l.name, l.state), err
	case unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		id, n, err := decodeNexthop(m.payload)
		return fmt.Sprintf("nexthop %d blackhole %v members %v, %s", id, n.blackhole, n.members, explainLeg(n.leg)), err
	}
	return "", fmt.Errorf("message type %d", m.kind)
}

func explainLeg(l leg) string { return fmt.Sprintf("via %v link %d flags %d", l.via, l.link, l.flags) }

// vector is a message as a kernel sent it, and what it means.
type vector struct {
	command string
	message message
	want    string
}

// readVectors reads the recorded messages: a line "# ip COMMAND", then for each message a line "TYPE FLAGS PAYLOAD" and an
// indented one with what it means.
func readVectors(tb testing.TB) (all []vector) {
	tb.Helper()
	b, err := os.ReadFile("testdata/messages.txt")
	if err != nil {
		tb.Fatal(err)
	}
	var v vector
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "":
		case strings.HasPrefix(line, "# "):
			v.command = line[2:]
		case strings.HasPrefix(line, "\t"):
			v.want = line[1:]
			all = append(all, v)
		default:
			var payload string
			if _, err = fmt.Sscanf(line, "%d %v %s", &v.message.kind, &v.message.flags, &payload); err != nil {
				tb.Fatalf("%q: %v", line, err)
			}
			if v.message.payload, err = hex.DecodeString(payload); err != nil {
				tb.Fatalf("%q: %v", line, err)
			}
		}
	}
	return all
}

func TestDecodeRecordedMessages(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the messages were recorded on a little-endian machine, and netlink speaks the machine's own order")
	}
	vectors := readVectors(t)
	if len(vectors) < 20 {
		t.Fatalf("only %d messages recorded", len(vectors))
	}
	for _, v := range vectors {
		got, err := explain(v.message)
		if errors.Is(err, errIgnored) {
			got = "ignored"
		} else if err != nil {
			got = err.Error()
		}
		if got != v.want {
			t.Errorf("%s\n got %s\nwant %s", v.command, got, v.want)
		}
	}
}

// A message that ends inside an attribute's value is refused, wherever that is.
func TestDecodeCutMessages(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.want == "ignored" {
			continue
		}
		whole := map[int]bool{} // lengths that end behind an attribute or in the padding behind it
		start := map[uint16]int{unix.RTM_NEWLINK: unix.SizeofIfInfomsg, unix.RTM_DELLINK: unix.SizeofIfInfomsg}[v.message.kind]
		if start == 0 {
			start = map[bool]int{true: sizeofNhmsg, false: unix.SizeofRtMsg}[v.message.kind >= unix.RTM_NEWNEXTHOP]
		}
		whole[start] = true
		for at := start; at < len(v.message.payload); {
			size := int(binary.NativeEndian.Uint16(v.message.payload[at:]))
			for n := size; n <= align4(size); n++ {
				whole[at+n] = true
			}
			at += align4(size)
		}
		for n := range v.message.payload {
			m := v.message
			m.payload = m.payload[:n]
			if _, err := explain(m); err == nil && !whole[n] {
				t.Errorf("%s: the first %d of %d bytes are read without error", v.command, n, len(v.message.payload))
			}
		}
	}
}

func TestDecodeRefusesNonsense(t *testing.T) {
	route4 := func(bits byte, attributes ...byte) []byte {
		return append([]byte{unix.AF_INET, bits, 0, 0, 254, 3, 0, kindUnicast, 0, 0, 0, 0}, attributes...)
	}
	for name, payload := range map[string][]byte{
		"prefix too long":        route4(33),
		"address of 3 bytes":     route4(24, 7, 0, unix.RTA_DST, 0, 10, 0, 0, 0),
		"address of the other":   route4(24, append([]byte{20, 0, unix.RTA_DST, 0}, make([]byte, 16)...)...),
		"attribute of 0 bytes":   route4(24, 0, 0, unix.RTA_DST, 0),
		"attribute beyond end":   route4(24, 99, 0, unix.RTA_DST, 0, 1, 2, 3, 4),
		"metric of 2 bytes":      route4(24, 6, 0, unix.RTA_PRIORITY, 0, 1, 2, 0, 0),
		"multipath leg too long": route4(24, 12, 0, unix.RTA_MULTIPATH, 0, 99, 0, 0, 0, 1, 0, 0, 0),
		"multipath leg of 0":     route4(24, 12, 0, unix.RTA_MULTIPATH, 0, 0, 0, 0, 0, 1, 0, 0, 0),
		"via of 1 byte":          route4(24, 5, 0, unix.RTA_VIA, 0, 2, 0, 0, 0),
	} {
		if r, err := decodeRoute(payload); err == nil || errors.Is(err, errIgnored) {
			t.Errorf("%s: decoded as %+v, %v", name, r, err)
		}
	}
	if _, _, err := decodeNexthop(make([]byte, sizeofNhmsg)); err == nil {
		t.Error("a nexthop without an id is accepted")
	}
	if _, _, err := cut([]byte{99, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); err == nil {
		t.Error("a message longer than its datagram is accepted")
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(v.message.kind, v.message.flags, v.message.payload)
	}
	f.Fuzz(func(t *testing.T, kind, flags uint16, payload []byte) {
		_, err := explain(message{header: header{kind: kind, flags: flags}, payload: payload})
		if r, failed := decodeRoute(payload); failed == nil && (!r.prefix.IsValid() || r.prefix != r.prefix.Masked()) {
			t.Errorf("prefix %v of a route that decoded", r.prefix)
		}
		cfg := Config{}.WithDefaults()
		s := newShadow(&cfg)
		why, failed := s.applyMessage(message{header: header{kind: kind, flags: flags}, payload: payload})
		if failed == nil && why == 0 {
			t.Error("no reason and no error")
		}
		if failed != nil && err == nil {
			t.Errorf("the shadow refuses what decodes: %v", failed)
		}
		s.take()
		if m, rest, broken := cut(payload); broken == nil && len(m.payload)+len(rest) >= len(payload) {
			t.Error("cut does not get shorter")
		}
	})
}
