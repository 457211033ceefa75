// Package localca is the certificate authority of the local stack: azcore refuses to send bearer tokens over plain HTTP, so every
// emulator serves TLS with a certificate of one CA that lives in memory and that clients trust through SSL_CERT_FILE or [CA.Pool].
package localca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"time"
)

const (
	// life bounds what a leaked key is good for; a local stack is restarted more often than this.
	life = 7 * 24 * time.Hour
	// backdate keeps the certificates valid on a machine or in a container whose clock is a little behind.
	backdate = time.Hour
)

// CA is a certificate authority whose key never leaves memory. It is name-constrained (RFC 5280 section 4.2.1.10) to localhost and
// to private addresses, so that a client that trusts it cannot be shown a certificate for a public name. It may be used by several
// goroutines at once.
type CA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// New makes a CA with a fresh ECDSA P-256 key that is valid for seven days.
func New() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("local CA: key: %w", err)
	}
	template, err := newTemplate("Pointsman local stack CA")
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign
	template.PermittedDNSDomainsCritical = true
	template.PermittedDNSDomains = []string{"localhost"}
	template.PermittedIPRanges = privateRanges()
	cert, err := sign(template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &CA{key: key, cert: cert}, nil
}

// PEM returns the CA's certificate, the content of an SSL_CERT_FILE.
func (c *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}

// WritePEM writes the CA's certificate to path, readable by everybody: it is no secret.
func (c *CA) WritePEM(path string) error {
	if err := os.WriteFile(path, c.PEM(), 0o644); err != nil {
		return fmt.Errorf("local CA: %w", err)
	}
	return nil
}

// Pool returns a new pool that holds the CA alone, for tls.Config.RootCAs.
func (c *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	return pool
}

// ServerTLS returns a server configuration with a new certificate for 127.0.0.1, ::1, localhost and hosts. A host is an address or a
// name; it is an error if the CA's constraints (localhost and below, private addresses) would make clients refuse it.
func (c *CA) ServerTLS(hosts ...string) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("local CA: server key: %w", err)
	}
	template, err := newTemplate("Pointsman local stack")
	if err != nil {
		return nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range append([]string{"127.0.0.1", "::1", "localhost"}, hosts...) {
		if addr, parseErr := netip.ParseAddr(host); parseErr == nil {
			template.IPAddresses = append(template.IPAddresses, net.IP(addr.AsSlice()))
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	cert, err := sign(template, c.cert, &key.PublicKey, c.key)
	if err != nil {
		return nil, err
	}
	if _, err = cert.Verify(x509.VerifyOptions{Roots: c.Pool()}); err != nil {
		return nil, fmt.Errorf("local CA: certificate for %q: %w", hosts, err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}},
		MinVersion:   tls.VersionTLS12,
	}, nil
}

// newTemplate returns what the CA's and the servers' certificates have in common.
func newTemplate(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("local CA: serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(life),
	}, nil
}

func sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("local CA: sign %q: %w", template.Subject.CommonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("local CA: parse %q: %w", template.Subject.CommonName, err)
	}
	return cert, nil
}

// privateRanges are loopback, link-local (the instance metadata service inside a network namespace) and RFC 1918 / RFC 4193.
func privateRanges() []*net.IPNet {
	prefixes := []string{"127.0.0.0/8", "::1/128", "169.254.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"}
	ranges := make([]*net.IPNet, 0, len(prefixes))
	for _, text := range prefixes {
		prefix := netip.MustParsePrefix(text)
		ranges = append(ranges, &net.IPNet{
			IP:   prefix.Addr().AsSlice(),
			Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
		})
	}
	return ranges
}
