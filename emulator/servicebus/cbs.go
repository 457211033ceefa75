package servicebus

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
)

// right is what a token may allow.
type right int

const (
	rightAny right = iota + 1 // either of the others
	rightListen
	rightSend
)

// String is the claim's name.
func (r right) String() string {
	switch r {
	case rightAny:
		return "Send or Listen"
	case rightListen:
		return "Listen"
	case rightSend:
		return "Send"
	default:
		return fmt.Sprintf("right(%d)", int(r))
	}
}

// grant is what a token that was put allows on a path and below it, until it expires.
type grant struct {
	path         string
	listen, send bool
	expires      time.Time // zero = never
}

func (g grant) allows(r right) bool {
	switch r {
	case rightListen:
		return g.listen
	case rightSend:
		return g.send
	case rightAny:
		return g.listen || g.send
	default:
		return false
	}
}

// allowed reports whether the connection may use path.
func (c *conn) allowed(now time.Time, path string, r right) bool {
	return slices.ContainsFunc(c.grants, func(g grant) bool {
		return (g.path == "" || below(path, g.path)) && (g.expires.IsZero() || g.expires.After(now)) && g.allows(r)
	})
}

// Token types of put-token.
const (
	tokenSAS = "servicebus.windows.net:sastoken"
	tokenJWT = "jwt"
)

var errToken = errors.New("invalid token")

// cbs handles put-token (OASIS "AMQP claims-based security"; Azure: protocol guide, claims-based authorization).
func (c *conn) cbs(now time.Time, m *amqp.Message) reply {
	operation, _ := text(m.Application(), "operation")
	if operation != "put-token" {
		return reply{code: http.StatusBadRequest, description: "operation " + operation + " is not supported", condition: condNotAllowed}
	}
	g, err := c.judge(now, m)
	if err != nil {
		return reply{code: http.StatusUnauthorized, description: err.Error(), condition: condUnauthorized}
	}
	c.grants = slices.DeleteFunc(c.grants, func(o grant) bool { return o.path == g.path })
	c.grants = append(c.grants, g)
	if !g.expires.IsZero() {
		c.server.after(now, g.expires.Sub(now), c.expireGrants)
	}
	return reply{code: http.StatusAccepted, description: "Accepted"}
}

func (c *conn) judge(now time.Time, m *amqp.Message) (grant, error) {
	kind, _ := text(m.Application(), "type")
	audience, _ := text(m.Application(), "name")
	v, _ := m.Value()
	token, _ := v.(string)
	switch kind {
	case tokenSAS:
		return c.judgeSAS(now, token, audience)
	case tokenJWT:
		return c.judgeJWT(m, token, audience)
	default:
		return grant{}, fmt.Errorf("%w: type %q is not supported", errToken, kind)
	}
}

func (c *conn) judgeJWT(m *amqp.Message, token, audience string) (grant, error) {
	if c.server.cfg.AcceptToken == nil {
		return grant{}, fmt.Errorf("%w: Entra tokens are not accepted here", errToken)
	}
	if err := c.server.cfg.AcceptToken(token, audience); err != nil {
		return grant{}, fmt.Errorf("%w: %w", errToken, err)
	}
	g := grant{path: pathOf(audience), listen: true, send: true}
	if s, ok := text(m.Application(), "expiration"); ok {
		if seconds, err := strconv.ParseInt(s, 10, 64); err == nil {
			g.expires = time.Unix(seconds, 0)
		}
	}
	return g, nil
}

// judgeSAS checks a shared access signature: HMAC-SHA256 of the encoded resource and the expiry.
func (c *conn) judgeSAS(now time.Time, token, audience string) (grant, error) {
	rest, ok := strings.CutPrefix(token, "SharedAccessSignature ")
	if !ok {
		return grant{}, fmt.Errorf("%w: not a shared access signature", errToken)
	}
	fields := map[string]string{}
	for pair := range strings.SplitSeq(rest, "&") {
		name, value, _ := strings.Cut(pair, "=")
		fields[name] = value
	}
	name, _ := url.QueryUnescape(fields["skn"])
	sig, _ := url.QueryUnescape(fields["sig"])
	resource, _ := url.QueryUnescape(fields["sr"])
	seconds, err := strconv.ParseInt(fields["se"], 10, 64)
	if err != nil {
		return grant{}, fmt.Errorf("%w: expiry %q", errToken, fields["se"])
	}
	i := slices.IndexFunc(c.server.cfg.Keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return grant{}, fmt.Errorf("%w: no rule %q", errToken, name)
	}
	k := c.server.cfg.Keys[i]
	path, expires := pathOf(audience), time.Unix(seconds, 0)
	switch {
	case !hmac.Equal([]byte(sig), []byte(k.signature(fields["sr"], fields["se"]))):
		return grant{}, fmt.Errorf("%w: the signature does not match", errToken)
	case !expires.After(now):
		return grant{}, fmt.Errorf("%w: expired at %s", errToken, expires.UTC().Format(time.RFC3339))
	case pathOf(resource) != "" && !below(path, pathOf(resource)):
		return grant{}, fmt.Errorf("%w: made for another resource", errToken)
	case !k.covers(path) || !k.Listen && !k.Send:
		return grant{}, fmt.Errorf("%w: rule %q has no right on %q", errToken, name, path)
	}
	return grant{path: path, listen: k.Listen, send: k.Send, expires: expires}, nil
}

// signature is the base64 of HMAC-SHA256 over the encoded resource and the expiry (Azure: "Service Bus access control
// with shared access signatures").
func (k Key) signature(resource, expiry string) string {
	mac := hmac.New(sha256.New, []byte(k.Value))
	mac.Write([]byte(resource + "\n" + expiry))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Sign makes a shared access signature with the key for a resource such as "sb://host/queue", for connection strings
// with SharedAccessSignature.
func Sign(resource string, k Key, expires time.Time) string {
	sr, se := url.QueryEscape(strings.ToLower(resource)), strconv.FormatInt(expires.Unix(), 10)
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%s&skn=%s", sr, url.QueryEscape(k.signature(sr, se)), se, k.Name)
}

// expireGrants detaches the links for which there is no valid token any more.
func (c *conn) expireGrants(now time.Time) {
	c.grants = slices.DeleteFunc(c.grants, func(g grant) bool { return !g.expires.IsZero() && !g.expires.After(now) })
	e := &amqp.Error{Condition: condUnauthorized, Description: "the token has expired"}
	for _, channel := range sortedKeys(c.sessions) {
		s := c.sessions[channel]
		for _, h := range sortedKeys(s.links) {
			if path, r := needs(s.links[h]); path != cbsPath && !c.allowed(now, path, r) {
				s.detach(now, h, e)
			}
		}
	}
}

// needs is the path and the right that a link depends on.
func needs(l link) (string, right) {
	switch l := l.(type) {
	case *senderLink:
		if strings.HasSuffix(l.path, managementSuffix) {
			return l.path, rightAny
		}
		return l.path, rightSend
	case *receiverLink:
		return l.path, rightListen
	case *replyLink:
		return l.path, rightAny
	default:
		panic(fmt.Sprintf("servicebus: link %T", l))
	}
}

// text is a string entry of a map.
func text(m amqp.Map, key string) (string, bool) {
	v, _ := m.Get(key)
	s, ok := v.(string)
	return s, ok
}
