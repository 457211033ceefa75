package blob

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// authorize returns the principal of a shared key or bearer request, or the refusal.
func (s *Server) authorize(r *http.Request) (principal string, refusal *response) {
	authorization := r.Header.Get("Authorization")
	if credential, ok := strings.CutPrefix(authorization, "SharedKey "); ok {
		account, signature, _ := strings.Cut(credential, ":")
		given, err := base64.StdEncoding.DecodeString(signature)
		if len(s.key) > 0 && err == nil && account == s.cfg.Account && hmac.Equal(given, s.sign(r)) {
			return account, nil
		}
	}
	if token, ok := strings.CutPrefix(authorization, "Bearer "); ok && token != "" {
		var err error
		if principal, err = s.cfg.Verify(token); err == nil {
			return principal, nil
		}
	}
	if authorization == "" {
		answer := fail(http.StatusUnauthorized, "NoAuthenticationInformation",
			"Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
		answer.header.Set("WWW-Authenticate",
			"Bearer authorization_uri=https://login.microsoftonline.com/local/oauth2/authorize resource_id=https://storage.azure.com")
		return "", &answer
	}
	answer := fail(http.StatusForbidden, "AuthenticationFailed",
		"Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.")
	return "", &answer
}

// sign computes the signature of "Authorize with Shared Key", version 2009-09-19 and later.
func (s *Server) sign(r *http.Request) []byte {
	length := ""
	if r.ContentLength > 0 {
		length = strconv.FormatInt(r.ContentLength, 10)
	}
	date := r.Header.Get("Date")
	if r.Header.Get("X-Ms-Date") != "" {
		date = ""
	}
	lines := []string{
		r.Method, r.Header.Get("Content-Encoding"), r.Header.Get("Content-Language"), length, r.Header.Get("Content-MD5"),
		r.Header.Get("Content-Type"), date, r.Header.Get("If-Modified-Since"), r.Header.Get("If-Match"), r.Header.Get("If-None-Match"),
		r.Header.Get("If-Unmodified-Since"), r.Header.Get("Range"),
	}
	lines = append(lines, canonicalHeaders(r.Header)...)
	lines = append(lines, s.canonicalResource(r)...)
	mac := hmac.New(sha256.New, s.key)
	_, _ = mac.Write([]byte(strings.Join(lines, "\n"))) // never fails
	return mac.Sum(nil)
}

// canonicalHeaders returns the x-ms- headers in lower case and in order.
func canonicalHeaders(header http.Header) []string {
	var lines []string
	for name, values := range header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-ms-") {
			lines = append(lines, name+":"+strings.TrimSpace(strings.Join(values, ",")))
		}
	}
	slices.Sort(lines)
	return lines
}

// canonicalResource returns the account and path, then the query parameters in lower case and in order.
func (s *Server) canonicalResource(r *http.Request) []string {
	lines := []string{"/" + s.cfg.Account + r.URL.EscapedPath()}
	query := r.URL.Query()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := slices.Sorted(slices.Values(query[name]))
		lines = append(lines, strings.ToLower(name)+":"+strings.Join(values, ","))
	}
	return lines
}
