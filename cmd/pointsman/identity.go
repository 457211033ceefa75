package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// busScope is what tokens for Service Bus are for.
const busScope = "https://servicebus.azure.net/.default"

// signedIn returns who the credential stands for, as the token names it: a person by the sign-in name, an application by its id. The token is not checked: it
// is our own, and what it says is only a default.
func signedIn(ctx context.Context, credential azcore.TokenCredential) (string, error) {
	token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{busScope}})
	if err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	who, err := subject(token.Token)
	if err != nil {
		return "", fmt.Errorf("%w: the token does not say who is signed in (%w): say so with --who", errInput, err)
	}
	return who, nil
}

// subject reads a token's claims (RFC 7519, section 3.1; Microsoft identity platform, access token claims).
func subject(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("it is no JSON Web Token")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", fmt.Errorf("claims: %w", err)
	}
	var claims struct {
		UPN       string `json:"upn"`
		Preferred string `json:"preferred_username"`
		Unique    string `json:"unique_name"`
		AppID     string `json:"appid"`
		Party     string `json:"azp"`
		ObjectID  string `json:"oid"`
	}
	if err = json.Unmarshal(raw, &claims); err != nil {
		return "", fmt.Errorf("claims: %w", err)
	}
	if person := cmp.Or(claims.UPN, claims.Preferred, claims.Unique); person != "" {
		return person, nil
	}
	if app := cmp.Or(claims.AppID, claims.Party); app != "" {
		return "app " + app, nil
	}
	if claims.ObjectID != "" {
		return "object " + claims.ObjectID, nil
	}
	return "", errors.New("it has none of the claims upn, preferred_username, unique_name, appid, azp, oid")
}
