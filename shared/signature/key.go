package signature

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// algorithm is the one that there is: Ed25519 (RFC 8032), pure, behind a text that names the purpose.
const algorithm = "ed25519"

// Key is a public key.
type Key [ed25519.PublicKeySize]byte

// KeyOf returns the public half of a private key.
func KeyOf(private ed25519.PrivateKey) (k Key) {
	copy(k[:], private[ed25519.PrivateKeySize-ed25519.PublicKeySize:]) // crypto/ed25519: the last 32 bytes are the public key
	return k
}

// String returns the form of the domain file, "ed25519:" and 44 characters of base64.
func (k Key) String() string { return algorithm + ":" + base64.StdEncoding.EncodeToString(k[:]) }

// ID names the key in signatures and messages: the first 16 hexadecimal digits of its SHA-256. It tells which key to try and proves nothing.
func (k Key) ID() string {
	sum := sha256.Sum256(k[:])
	return hex.EncodeToString(sum[:idSize])
}

const idSize = 8

// ParseKey reads what String writes. The error does not repeat the text: people paste private keys.
func ParseKey(s string) (Key, error) {
	text, ok := strings.CutPrefix(s, algorithm+":")
	if !ok {
		return Key{}, errors.New("found something else")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	switch {
	case err != nil:
		return Key{}, errors.New("what follows ed25519: is not base64")
	case len(raw) != ed25519.PublicKeySize:
		return Key{}, fmt.Errorf("the key has %d bytes, want %d", len(raw), ed25519.PublicKeySize)
	}
	k := Key(raw)
	if k.weak() {
		return Key{}, errors.New("the key is one of the few with which everybody can sign, such as one of zeros")
	}
	return k, nil
}

// weak reports whether the key is a point of small order: there is no private key to it, and signatures that fit are easily made up. The
// list is all encodings of the eight points, with the sign bit cleared. Source: RFC 8032, section 5.1: the cofactor is 8.
func (k Key) weak() bool {
	k[len(k)-1] &^= 0x80 // a copy
	return slices.Contains([]string{
		"0000000000000000000000000000000000000000000000000000000000000000", // order 4
		"0100000000000000000000000000000000000000000000000000000000000000", // order 1
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // 0 written as p
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // 1 written as p+1
	}, hex.EncodeToString(k[:]))
}
