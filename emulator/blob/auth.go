package blob

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Versions of the service (x-ms-version) that changed how a request is authorized. Source: "Authorize with Microsoft Entra ID", sections "Call storage
// operations with OAuth tokens" and "Bearer challenge".
const (
	bearerVersion    = "2017-11-09"
	challengeVersion = "2019-12-12"
)

// authorize returns the principal of a shared key or bearer request, or the refusal.
func (s *Server) authorize(r *http.Request) (principal string, refusal *response) {
	authorization := r.Header.Get("Authorization")
	scheme, credential, _ := strings.Cut(authorization, " ")
	switch {
	case authorization == "":
		return "", new(anonymous(r))
	case scheme == "SharedKey" && strings.Contains(credential, ":"):
		return s.authorizeKey(r, credential)
	case scheme == "Bearer" && credential != "":
		return s.authorizeToken(r, credential)
	}
	// Common REST API error codes; what Azurite answers too.
	return "", new(fail(http.StatusBadRequest, "InvalidAuthenticationInfo",
		"Authentication information is not given in the correct format. Check the value of Authorization header."))
}

// authorizeKey judges ACCOUNT:SIGNATURE.
func (s *Server) authorizeKey(r *http.Request, credential string) (principal string, refusal *response) {
	if len(s.key) == 0 { // "Prevent Shared Key authorization for an Azure Storage account"
		return "", new(fail(http.StatusForbidden, "KeyBasedAuthenticationNotPermitted", "Key based authentication is not permitted on this storage account."))
	}
	account, signature, _ := strings.Cut(credential, ":")
	text := s.stringToSign(r)
	mac := hmac.New(sha256.New, s.key)
	_, _ = mac.Write([]byte(text)) // never fails
	given, err := base64.StdEncoding.DecodeString(signature)
	if err == nil && account == s.cfg.Account && hmac.Equal(given, mac.Sum(nil)) {
		return account, nil
	}
	return "", new(authenticationFailed(fmt.Sprintf("The MAC signature found in the HTTP request '%s' is not the same as any computed signature. "+
		"Server used following string to sign: '%s'.", signature, text)))
}

// authorizeToken judges a bearer token. A bad one is challenged with 401 from challengeVersion on, and was refused with 403 before: both are seen in
// reports of "Lifetime validation failed. The token is expired.", Azure/azure-sdk-for-net#42859 (2024) and Azure/azure-sdk-for-java#8667 (2020); the
// challenge and a detail for a wrong audience in Azure/AzureStor#119.
func (s *Server) authorizeToken(r *http.Request, token string) (principal string, refusal *response) {
	version := r.Header.Get("X-Ms-Version")
	if version < bearerVersion {
		return "", new(authenticationFailed("Authentication scheme Bearer is not supported in this version."))
	}
	principal, err := s.cfg.Verify(token)
	switch {
	case err == nil:
		return principal, nil
	case version < challengeVersion:
		return "", new(authenticationFailed(err.Error()))
	}
	return "", new(challenge("InvalidAuthenticationInfo", err.Error()))
}

// anonymous answers a request without credentials: nothing is public here, as in an account that disallows it. Source: "Remediate anonymous read access
// to blob data".
func anonymous(r *http.Request) response {
	if r.Header.Get("X-Ms-Version") < challengeVersion {
		return fail(http.StatusConflict, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
	}
	return challenge("NoAuthenticationInformation", "")
}

// challenge asks for a token (RFC 6750, section 3). Clients parse it: azblob takes the tenant and the resource out of it, gets a new token and tries again.
func challenge(code, detail string) response {
	answer := failDetailed(http.StatusUnauthorized, code,
		"Server failed to authenticate the request. Please refer to the information in the www-authenticate header.", detail)
	answer.header.Set("WWW-Authenticate",
		"Bearer authorization_uri=https://login.microsoftonline.com/local/oauth2/authorize resource_id=https://storage.azure.com")
	return answer
}

func authenticationFailed(detail string) response {
	return failDetailed(http.StatusForbidden, "AuthenticationFailed",
		"Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.", detail)
}

// stringToSign is that of "Authorize with Shared Key", version 2009-09-19 and later.
func (s *Server) stringToSign(r *http.Request) string {
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
	return strings.Join(lines, "\n")
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
