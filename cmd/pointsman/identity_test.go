package main

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestSubject(t *testing.T) {
	token := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	}
	for in, want := range map[string]string{
		token(`{"upn":"jo@example.com","appid":"1","oid":"2"}`):      "jo@example.com",
		token(`{"preferred_username":"jo@example.com","azp":"1"}`):   "jo@example.com",
		token(`{"unique_name":"live.com#jo@example.com","oid":"2"}`): "live.com#jo@example.com",
		token(`{"appid":"1","oid":"2"}`):                             "app 1",
		token(`{"azp":"1","oid":"2"}`):                               "app 1",
		token(`{"oid":"2"}`):                                         "object 2",
	} {
		if got, err := subject(in); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	for in, want := range map[string]string{"opaque": "no JSON Web Token", "a.!.c": "claims", token(`[]`): "claims", token(`{}`): "none of the claims"} {
		if _, err := subject(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestUUID(t *testing.T) {
	a, b := newUUID(), newUUID()
	if a == b || len(a) != 36 || a[14] != '4' {
		t.Errorf("%s, %s", a, b)
	}
}
