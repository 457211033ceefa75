// Package signature proves that an event comes from the NVA that it names, and an operator's order from an operator.
//
// An event, and likewise an order, is a JSON object, and JSON does not stay as it is: the Functions host and the journal write it anew, and people look at it with tools that
// sort and indent. So what is signed is not the bytes but the canonical form of the value ([Open]): of everything in the event, known to this
// version or not, but for the two attributes that are added after signing. And nothing else is ever read: what Open returns is what was signed.
//
//	event ──▶ canonical form ──▶ Ed25519 of purpose ‖ canonical form ──▶ "pointsmansignature": "ed25519:KEY:SIGNATURE"
//
// The canonical form is much like that of RFC 8785, but for integers, which it would round to 53 bits:
//
//   - no white space; members in the order of their names by Unicode code point; a name that stands twice is an error;
//   - strings with the escapes of RFC 8785, 3.2.2.2: \" \\ \b \t \n \f \r, other control characters as \u00xx, all else as it is in UTF-8;
//   - integers, that is numbers without fraction and exponent, with their digits; other numbers as RFC 8785, 3.2.2.3 writes their 64-bit value.
//
// A signature does not say when it was made. That an old event is harmless is for the merge of shared/state; that an old order is, for shared/warrant.
package signature

import (
	"crypto/ed25519"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/journal"
)

// Attribute is the CloudEvents extension attribute that holds the signature.
const Attribute = "pointsmansignature"

// form is a kind of message that is signed.
type form struct {
	purpose            string // comes before what is signed, so that nothing that a key signs for one purpose is ever taken for another
	noun               string
	unsigned, unhelped string // why a signature is missed, and what to do about it
	signers            string // whose keys the domain file has
	stranger           string // what to do about a key that it has not
	sender             string // whose upgrade must come after the function app's
}

func ofEvent() form {
	return form{
		purpose: "pointsman event signature 1\n", noun: "event", unsigned: "the domain file has keys for its NVA",
		unhelped: "give the agent a key (pointsman-agent keygen, and signing.keyFile in its configuration), or take the keys out of the domain file",
		signers:  "its NVA", stranger: "if that is the key of this NVA (pointsman-agent pubkey), add it to the domain file", sender: "agents",
	}
}

func ofOrder() form {
	return form{
		purpose: "pointsman order signature 1\n", noun: "order", unsigned: "the domain file has operators",
		unhelped: "make a key with pointsman keygen, have it added under operators in the domain file, and give orders with --key",
		signers:  "its operators", stranger: "if that is the key of an operator (pointsman pubkey), add it to the domain file", sender: "operators' pointsman",
	}
}

// Sign returns an encoded event with its signature. An event that is no JSON object, or is signed already, is a Bug.
func Sign(private ed25519.PrivateKey, body []byte) ([]byte, error) {
	return ofEvent().sign(private, body)
}

// Open checks that one of the keys has signed an encoded event and returns what it signed, in canonical form and without the signature. An
// error is Poison and names keys by their ID only.
func Open(body []byte, keys []Key) (content []byte, by Key, err error) {
	return ofEvent().open(body, keys)
}

// SignOrder is Sign for an operator's order. Neither signature is ever taken for the other.
func SignOrder(private ed25519.PrivateKey, body []byte) ([]byte, error) {
	return ofOrder().sign(private, body)
}

// OpenOrder is Open for an operator's order.
func OpenOrder(body []byte, keys []Key) (content []byte, by Key, err error) {
	return ofOrder().open(body, keys)
}

func (f form) sign(private ed25519.PrivateKey, body []byte) ([]byte, error) {
	content, signature, err := split(body)
	switch {
	case err != nil:
		return nil, fault.New(fault.Bug, "sign an %s: %w", f.noun, err)
	case signature != "":
		return nil, fault.New(fault.Bug, "sign an %s: it is signed already", f.noun)
	case len(content) == len("{}"):
		return nil, fault.New(fault.Bug, "sign an %s: it is empty", f.noun)
	}
	value := algorithm + ":" + KeyOf(private).ID() + ":" + base64.StdEncoding.EncodeToString(ed25519.Sign(private, f.message(content)))
	end := strings.LastIndexByte(string(body), '}') // nothing but space comes after it
	return append(slices.Clone(body[:end]), `,"`+Attribute+`":"`+value+`"}`...), nil
}

func (f form) open(body []byte, keys []Key) (content []byte, by Key, err error) {
	content, signature, err := split(body)
	if err != nil {
		return nil, Key{}, fault.New(fault.Poison, "the %s cannot be checked: %w", f.noun, err)
	}
	signature = strings.Trim(signature, `"`)
	if signature == "" {
		return nil, Key{}, fault.New(fault.Poison, "the %s is not signed, and %s", f.noun, f.unsigned).WithAdvice("%s", f.unhelped)
	}
	id, proof, err := f.parse(signature)
	if err != nil {
		return nil, Key{}, err
	}
	i := slices.IndexFunc(keys, func(k Key) bool { return k.ID() == id })
	if i < 0 {
		return nil, Key{}, fault.New(fault.Poison, "the %s is signed with key %s, the domain file has %s for %s", f.noun, id, ids(keys), f.signers).WithAdvice("%s", f.stranger)
	}
	if !ed25519.Verify(keys[i][:], f.message(content), proof) {
		return nil, Key{}, fault.New(fault.Poison, "the %s does not fit its signature with key %s: it was changed on its way, or made up", f.noun, id)
	}
	return content, keys[i], nil
}

// parse reads "ed25519:ID:SIGNATURE".
func (f form) parse(signature string) (id string, proof []byte, err error) {
	parts := strings.Split(signature, ":")
	if parts[0] != algorithm {
		return "", nil, fault.New(fault.Poison, "the %s has a signature of a kind that this version does not know", f.noun).
			WithAdvice("upgrade the function app before the %s", f.sender)
	}
	if len(parts) == 3 && len(parts[1]) == 2*idSize && strings.Trim(parts[1], "0123456789abcdef") == "" {
		if proof, err = base64.StdEncoding.DecodeString(parts[2]); err == nil && len(proof) == ed25519.SignatureSize {
			return parts[1], proof, nil
		}
	}
	return "", nil, fault.New(fault.Poison, "the %s has a damaged signature: want %s:, %d hexadecimal digits, :, and %d bytes in base64", f.noun, algorithm, 2*idSize, ed25519.SignatureSize)
}

// maxIDs is how many keys a message names.
const maxIDs = 6

func ids(keys []Key) string {
	var out []string
	for i, k := range keys {
		if i == maxIDs {
			out = append(out, "others")
			break
		}
		out = append(out, k.ID())
	}
	return strings.Join(out, " and ")
}

func (f form) message(content []byte) []byte { return append([]byte(f.purpose), content...) }

// split returns the canonical form of an event without what is added after signing, and the JSON text of the signature; "": none.
func split(body []byte) (content []byte, signature string, err error) {
	members, err := object(body)
	if err != nil {
		return nil, "", err
	}
	members = slices.DeleteFunc(members, func(m member) bool {
		if m.name == Attribute {
			signature = m.text
		}
		return m.name == Attribute || m.name == journal.Attribute
	})
	return appendObject(nil, members), signature, nil
}
