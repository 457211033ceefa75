// Package signing keeps the private key with which an agent signs what it says, or an operator orders. The file is PEM with PKCS #8 in it (RFC 8410), as
// "openssl genpkey -algorithm ed25519" makes it too.
package signing

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/pointsman/pointsman/agent/lasting"
	"github.com/pointsman/pointsman/shared/signature"
)

// block is the type of the PEM block. Source: RFC 7468, section 10.
const block = "PRIVATE KEY"

// Generate makes a key, keeps it in the file, readable by its owner only, and returns its public half. A file that is there already is
// fs.ErrExist, unless it is to be replaced.
func Generate(path string, replace bool) (signature.Key, error) {
	_, private, err := ed25519.GenerateKey(nil) // from crypto/rand
	if err != nil {
		return signature.Key{}, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return signature.Key{}, fmt.Errorf("make a key: %w", err)
	}
	keep := lasting.Create
	if replace {
		keep = lasting.Replace
	}
	if err = keep(path, pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der})); err != nil {
		return signature.Key{}, fmt.Errorf("make a key: %w", err)
	}
	return signature.KeyOf(private), nil
}

// Load reads a key. A file that others may read is refused: they could sign too. tool is the program whose keygen makes keys of that kind.
func Load(path, tool string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the signing key: %w: make one with %s keygen", err, tool)
	}
	if err != nil {
		return nil, fmt.Errorf("the signing key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("the signing key %s has mode %04o: want 0600, for whoever reads it can sign with it", path, mode)
	}
	text, err := os.ReadFile(path) // of our own configuration
	if err != nil {
		return nil, fmt.Errorf("the signing key: %w", err)
	}
	private, err := parse(text, tool)
	if err != nil {
		return nil, fmt.Errorf("the signing key %s: %w", path, err)
	}
	return private, nil
}

// parse never repeats what it reads.
func parse(text []byte, tool string) (ed25519.PrivateKey, error) {
	p, _ := pem.Decode(text)
	if p == nil || p.Type != block {
		return nil, errors.New("found no PEM block " + block + ": want a file as " + tool + " keygen makes it")
	}
	key, err := x509.ParsePKCS8PrivateKey(p.Bytes)
	if err != nil {
		return nil, errors.New("the PEM block holds no private key in PKCS #8")
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("found a %T: want an Ed25519 key", key)
	}
	return private, nil
}
