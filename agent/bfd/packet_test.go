package bfd

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

type vector struct {
	datagram []byte
	want     string
}

// readVectors reads testdata/packets.txt: a line of hexadecimal digits, then an indented one with what it means.
func readVectors(tb testing.TB) (all []vector) {
	tb.Helper()
	text, err := os.ReadFile("testdata/packets.txt")
	if err != nil {
		tb.Fatal(err)
	}
	var v vector
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "", strings.HasPrefix(line, "# "):
		case strings.HasPrefix(line, "\t"):
			v.want = line[1:]
			all = append(all, v)
		default:
			if v.datagram, err = hex.DecodeString(strings.ReplaceAll(line, " ", "")); err != nil {
				tb.Fatalf("%q: %v", line, err)
			}
		}
	}
	return all
}

func TestDecodeVectors(t *testing.T) {
	vectors := readVectors(t)
	if len(vectors) < 20 {
		t.Fatalf("only %d datagrams", len(vectors))
	}
	seen := map[Discard]bool{}
	for _, v := range vectors {
		p, why := Decode(v.datagram)
		got := "discarded: " + why.String()
		if why == 0 {
			got = p.String()
		}
		if got != v.want {
			t.Errorf("%x\n got %s\nwant %s", v.datagram, got, v.want)
		}
		seen[why] = true
	}
	for _, d := range Discards() {
		if d <= NoDiscriminator && !seen[d] {
			t.Errorf("no datagram is %s", d)
		}
	}
}

// FuzzDecode: what decodes obeys the RFC, and reads back as it was.
func FuzzDecode(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(v.datagram)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, why := Decode(b)
		if why != 0 {
			if (p != Packet{}) || why >= endOfDiscardReason {
				t.Fatalf("discarded for %s, with %s", why, &p)
			}
			return
		}
		if len(b) < packetSize || b[0]>>5 != version || p.My == 0 || p.DetectMult == 0 || p.State < AdminDown || p.State > Up || int(b[3]) > len(b) {
			t.Fatalf("%x must be discarded, decodes as %s", b, &p)
		}
		if p.Auth {
			return
		}
		again := p.Append(nil)
		if back, bad := Decode(again); bad != 0 || back != p {
			t.Fatalf("%s reads back as %s, %s", &p, &back, bad)
		}
		again[3] = b[3]
		if !bytes.Equal(again, b[:packetSize]) {
			t.Fatalf("%x is written as %x", b[:packetSize], again)
		}
	})
}
