package echo

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

const (
	keyA = "000102030405060708090a0b0c0d0e0f"
	keyB = "4BCNfEVfGzQdU1mXTqNSiQ==" // base64
)

func keysOf(tb testing.TB, text string) *Keys {
	tb.Helper()
	k, err := ParseKeys(text)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func sample() Packet {
	return Packet{
		Kind: Probe, Deaf: true, Session: 1780000000000, Sequence: 42, Sent: time.Unix(1780000001, 5),
		Domain: MakeName("hub"), From: MakeName("nva-a"), To: MakeName("nva-b"),
	}
}

func signed(tb testing.TB, p Packet, keys string) []byte {
	tb.Helper()
	b := make([]byte, Size)
	p.encode(b)
	keysOf(tb, keys).sign(0, b)
	return b
}

// TestWire pins the bytes that docs/liveness.md describes.
func TestWire(t *testing.T) {
	want := "504d5745" + "01" + "01" + "01" + "00" + "0000019e70448800" + "000000000000002a" + "18b3d491efccca05" +
		hex.EncodeToString(append([]byte("hub"), make([]byte, 37)...)) +
		hex.EncodeToString(append([]byte("nva-a"), make([]byte, 35)...)) +
		hex.EncodeToString(append([]byte("nva-b"), make([]byte, 35)...)) +
		"e12b9f41cc1c95b2c329f06067ff91ab"
	if got := hex.EncodeToString(signed(t, sample(), keyA)); got != want {
		t.Errorf("packet\n%s, want\n%s", got, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"short":                       func(b []byte) []byte { return b[:Size-1] },
		"long":                        func(b []byte) []byte { return append(b, 0) },
		"empty":                       func([]byte) []byte { return nil },
		"magic":                       func(b []byte) []byte { b[0] = 'Q'; return b },
		"version":                     func(b []byte) []byte { b[4] = 2; return b },
		"kind 0":                      func(b []byte) []byte { b[5] = 0; return b },
		"kind 3":                      func(b []byte) []byte { b[5] = 3; return b },
		"unknown flag":                func(b []byte) []byte { b[6] = 2; return b },
		"reserved":                    func(b []byte) []byte { b[7] = 1; return b },
		"no domain":                   func(b []byte) []byte { clear(b[32:72]); return b },
		"capital letter":              func(b []byte) []byte { b[72] = 'N'; return b },
		"something after the padding": func(b []byte) []byte { b[151] = 'x'; return b },
	} {
		var p Packet
		if err := p.decode(spoil(signed(t, sample(), keyA))); err == nil {
			t.Errorf("%s: it was read as %+v", name, p)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(signed(f, sample(), keyA))
	f.Add([]byte("PMWE"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Packet
		if p.decode(b) != nil {
			return
		}
		again := make([]byte, signedSize)
		p.encode(again)
		if !bytes.Equal(again, b[:signedSize]) {
			t.Errorf("% x was read and written as % x", b[:signedSize], again)
		}
	})
}

// TestEveryBitIsAuthenticated: whichever bit is turned, the packet is refused.
func TestEveryBitIsAuthenticated(t *testing.T) {
	k := keysOf(t, keyA)
	b := signed(t, sample(), keyA)
	if _, ok := k.verify(b); !ok {
		t.Fatal("a good packet is refused")
	}
	for bit := range Size * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if _, ok := k.verify(b); ok {
			t.Errorf("bit %d can be turned", bit)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
}

func TestKeys(t *testing.T) {
	b := signed(t, sample(), keyB)
	if _, ok := keysOf(t, keyA).verify(b); ok {
		t.Error("a packet of another key is accepted")
	}
	if key, ok := keysOf(t, "# old, then new\n"+keyA+"\n\n  "+keyB+"  \n").verify(b); !ok || key != 1 {
		t.Errorf("signed with the second key: got %d %t", key, ok)
	}
	for text, want := range map[string]string{
		"":                                      "0 keys",
		"# nothing\n":                           "0 keys",
		keyA + "\n" + keyB + "\n" + keyA:        "3 keys",
		"secret of the house":                   "key 1: want at least 16 bytes in hexadecimal or base64",
		keyA + "\n00112233445566778899aabbccdd": "key 2: 14 bytes: want at least 16",
	} {
		_, err := ParseKeys(text)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "0011")) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
}
