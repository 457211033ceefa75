package echo

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// minKey is the shortest key, in bytes: as long as the MAC. maxKeys is two, for rotation.
const (
	minKey  = 16
	maxKeys = 2
)

// Keys authenticate packets. They are not safe for concurrent use.
type Keys struct {
	macs []hash.Hash
	sum  [sha256.Size]byte
}

// ParseKeys reads the text of a key file: one key a line, hexadecimal or base64, the first signs and every one is accepted. A
// line of an even number of hexadecimal digits is hexadecimal. Errors never repeat what the file holds.
func ParseKeys(text string) (*Keys, error) {
	k := &Keys{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", len(k.macs)+1, err)
		}
		k.macs = append(k.macs, hmac.New(sha256.New, key))
	}
	if n := len(k.macs); n == 0 || n > maxKeys {
		return nil, fmt.Errorf("%d keys: want one, or two while they are changed, one a line: head -c 32 /dev/urandom | base64", n)
	}
	return k, nil
}

func parseKey(line string) ([]byte, error) {
	key, err := hex.DecodeString(line)
	if err != nil {
		key, err = base64.StdEncoding.DecodeString(line)
	}
	if err != nil {
		return nil, fmt.Errorf("want at least %d bytes in hexadecimal or base64", minKey)
	}
	if len(key) < minKey {
		return nil, fmt.Errorf("%d bytes: want at least %d", len(key), minKey)
	}
	return key, nil
}

// mac returns the MAC of a packet under one of the keys; it is valid until the next call.
func (k *Keys) mac(key int, packet []byte) []byte {
	h := k.macs[key]
	h.Reset()
	_, _ = h.Write(packet[:signedSize])
	return h.Sum(k.sum[:0])[:macSize]
}

// sign completes an encoded packet.
func (k *Keys) sign(key int, packet []byte) { copy(packet[signedSize:Size], k.mac(key, packet)) }

// verify returns which key a packet was signed with.
func (k *Keys) verify(packet []byte) (key int, ok bool) {
	for i := range k.macs {
		if hmac.Equal(k.mac(i, packet), packet[signedSize:Size]) {
			return i, true
		}
	}
	return 0, false
}
