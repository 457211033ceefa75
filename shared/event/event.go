// Package event is the one thing that agents and functions share: what an NVA says about its routes and about itself.
//
// Guarantees, on which the merge in shared/state rests:
//
//  1. Values are absolute: a delta names the new state of a prefix, never an operation relative to an earlier one.
//  2. (Epoch, Seq) is unique per NVA and grows with every event that the agent publishes; an epoch never goes back.
//  3. A snapshot is the whole RIB as of its own Seq, cut into chunks; an incomplete one withdraws nothing.
//  4. Digest is the digest of the RIB after the event, so that a receiver can tell that it missed something.
//  5. Expired is the dead-man switch: written by a living agent for delivery in the future. It says "no beat after Beat
//     was heard", and any event of a later beat outdates it, in whatever order the two arrive.
//  6. A report is absolute too, and every snapshot carries the one in force: a lost witness event is healed like a lost delta.
package event

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pointsman/pointsman/shared/route"
)

// Kind is the type of an event.
type Kind uint8

// The kinds of event, version 1 of the schema.
const (
	Snapshot Kind = iota + 1 // chunk i of n of the whole RIB
	Delta                    // prefixes that changed
	Alive                    // outdates a dead-man switch that may have fired although the agent lives
	Expired                  // the dead-man switch
	Draining                 // the machine goes down, or must carry no traffic: move away now
	Goodbye                  // the agent restarts: keep its routes for Restart
	Witness                  // what the agent sees of itself and of its peers has changed
)

// Kinds returns all kinds, in order.
func Kinds() []Kind { return []Kind{Snapshot, Delta, Alive, Expired, Draining, Goodbye, Witness} }

// String returns the last word of the CloudEvents type.
func (k Kind) String() string {
	switch k {
	case Snapshot:
		return "snapshot"
	case Delta:
		return "delta"
	case Alive:
		return "alive"
	case Expired:
		return "expired"
	case Draining:
		return "draining"
	case Goodbye:
		return "goodbye"
	case Witness:
		return "witness"
	}
	return "kind-" + strconv.Itoa(int(k))
}

// Version orders what one NVA said: first by the agent's start, then by the event in it.
type Version struct {
	Epoch uint64 `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// Compare orders versions lexicographically.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Epoch, w.Epoch), cmp.Compare(v.Seq, w.Seq))
}

// String returns "epoch/seq".
func (v Version) String() string {
	return strconv.FormatUint(v.Epoch, 10) + "/" + strconv.FormatUint(v.Seq, 10)
}

// Chunk says which part of a snapshot an event is: Index from 0 to Count-1.
type Chunk struct {
	Index int `json:"index"`
	Count int `json:"count"`
}

// Event is one statement of one NVA's agent.
type Event struct {
	Domain, NVA string
	Kind        Kind
	Version     Version
	Boot        string // identifies the agent process: tells a cloned machine from the original
	Beat        uint64 // the dead-man switch that was armed when this was said; with Expired, the one that fired
	Digest      route.Digest
	Time        time.Time // the agent's clock; informative only
	Observed    time.Time // when the oldest change in it was seen on the NVA, the agent's clock; informative, may be zero
	Traceparent string    // W3C Trace Context
	SignedBy    string    // id of the key by which it was proven to be signed; set by a receiver, never encoded; "": not asked for

	Announce []route.Entry  // Snapshot and Delta
	Withdraw []netip.Prefix // Delta only
	Chunk    Chunk          // Snapshot only
	Restart  time.Duration  // Goodbye only: how long the agent asks to be waited for
	Reason   string         // Draining and Goodbye
	Report   Report         // Witness, and the first chunk of a Snapshot
}

// Reports reports whether the event's Report counts, be it an empty one.
func (e Event) Reports() bool { return e.Kind == Witness || e.Kind == Snapshot && e.Chunk.Index == 0 }

// ID returns the event's identity, which is also the Service Bus MessageID. It begins with the domain because one queue serves
// several domains and NVA names are unique only within one.
func (e Event) ID() string {
	id := e.Domain + "/" + e.NVA + "/" + e.Version.String()
	switch {
	case e.Kind == Expired:
		return e.Domain + "/" + e.NVA + "/" + strconv.FormatUint(e.Version.Epoch, 10) + "/beat-" + strconv.FormatUint(e.Beat, 10)
	case e.Kind == Snapshot && e.Chunk.Count > 1:
		return id + "/" + strconv.Itoa(e.Chunk.Index)
	default:
		return id
	}
}

// Name limits: they are parts of blob names, MessageIDs (128 characters) and metrics.
const maxName = 40

// ValidName reports whether s can name a domain, an NVA or a target: 1 to 40 of a-z, 0-9 and -, beginning and ending with a letter or digit.
func ValidName(s string) bool {
	if s == "" || len(s) > maxName || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}) < 0
}

// Sizes of the encoded form, in bytes, rounded up: what splitting reckons with instead of encoding twice.
const (
	envelopeSize = 1024
	groupSize    = 96
	prefixSize   = 46
)

// Split cuts entries into pieces whose encoded events stay under limit bytes. No entries give one empty piece: an empty
// RIB is a statement too. The pieces share the backing array of entries.
func Split(entries []route.Entry, limit int) [][]route.Entry {
	var pieces [][]route.Entry
	start, size := 0, envelopeSize
	for i, e := range entries {
		cost := prefixSize
		if i == start || e.Attrs != entries[i-1].Attrs {
			cost += groupSize + len(e.Attrs.Origin)
		}
		if size+cost > limit && i > start {
			pieces = append(pieces, entries[start:i])
			start, size = i, envelopeSize+groupSize+len(e.Attrs.Origin)
			cost = prefixSize
		}
		size += cost
	}
	return append(pieces, entries[start:])
}

// Sort orders entries as events carry them: by attributes, then by prefix.
func Sort(entries []route.Entry) {
	slices.SortFunc(entries, func(a, b route.Entry) int {
		return cmp.Or(a.Attrs.Compare(b.Attrs), route.Compare(a.Prefix, b.Prefix))
	})
}

// check returns what is wrong with e, as decoded or about to be encoded.
func (e Event) check() error {
	switch {
	case !slices.Contains(Kinds(), e.Kind):
		return fmt.Errorf("%s is no kind of event", e.Kind)
	case !ValidName(e.Domain):
		return fmt.Errorf("domain %q: want 1 to %d of a-z, 0-9, -", e.Domain, maxName)
	case !ValidName(e.NVA):
		return fmt.Errorf("nva %q: want 1 to %d of a-z, 0-9, -", e.NVA, maxName)
	case e.Version.Epoch == 0:
		return fmt.Errorf("epoch is 0: epochs start at 1")
	case e.Version.Seq == 0 && e.Kind != Expired:
		return fmt.Errorf("seq is 0: sequence numbers start at 1")
	case e.Boot == "" || !plain(e.Boot):
		return fmt.Errorf("boot %q: want 1 to %d printable ASCII characters without \" \\ < > &", e.Boot, maxWord)
	case e.Kind == Snapshot && (e.Chunk.Count < 1 || e.Chunk.Count > MaxChunks || e.Chunk.Index < 0 || e.Chunk.Index >= e.Chunk.Count):
		return fmt.Errorf("chunk %d of %d: want an index below a count of 1 to %d", e.Chunk.Index, e.Chunk.Count, MaxChunks)
	case e.Kind != Snapshot && e.Kind != Delta && len(e.Announce) > 0:
		return fmt.Errorf("a %s event announces nothing", e.Kind)
	case e.Kind != Delta && len(e.Withdraw) > 0:
		return fmt.Errorf("a %s event withdraws nothing", e.Kind)
	case e.Restart < 0 || e.Restart > MaxRestart:
		return fmt.Errorf("restartSeconds is %v: want 0 to %v", e.Restart.Seconds(), MaxRestart.Seconds())
	case len(e.Reason) > maxReason || !utf8.ValidString(e.Reason):
		return fmt.Errorf("reason has %d bytes: want at most %d of UTF-8", len(e.Reason), maxReason)
	case !utf8.ValidString(e.Traceparent):
		return fmt.Errorf("traceparent is not UTF-8")
	case !e.Reports() && !e.Report.Empty():
		return fmt.Errorf("a report stands in a %s event: want it in witness or in the first chunk of a snapshot", e.Kind)
	}
	if err := e.Report.check(); err != nil {
		return err
	}
	return e.checkPrefixes()
}

// MaxChunks bounds what a receiver keeps of an incomplete snapshot: about a full Internet table.
const MaxChunks = 1024

// MaxRestart is the longest that an agent may ask to be waited for.
const MaxRestart = 24 * time.Hour

// maxReason bounds a text for people, in bytes; maxWord bounds a boot id and an origin.
const (
	maxReason = 1024
	maxWord   = 64
)

// plain reports whether s is short and needs no escaping in JSON: then splitting knows its encoded size.
func plain(s string) bool {
	return len(s) <= maxWord && strings.IndexFunc(s, func(r rune) bool {
		return r < ' ' || r > '~' || strings.ContainsRune(`"\<>&`, r)
	}) < 0
}

// checkPrefixes refuses a prefix that is not canonical or is named twice: then the event would depend on an order inside itself.
func (e Event) checkPrefixes() error {
	seen := make(map[netip.Prefix]struct{}, len(e.Announce)+len(e.Withdraw))
	visit := func(p netip.Prefix) error {
		if !p.IsValid() {
			return errors.New("a prefix is empty")
		}
		if route.Canonical(p) != p {
			return fmt.Errorf("prefix %s is not canonical: want %s", p, route.Canonical(p))
		}
		if _, twice := seen[p]; twice {
			return fmt.Errorf("prefix %s is named twice", p)
		}
		seen[p] = struct{}{}
		return nil
	}
	for _, a := range e.Announce {
		if err := visit(a.Prefix); err != nil {
			return err
		}
		if !plain(a.Attrs.Origin) {
			return fmt.Errorf("origin %q of %s: want at most %d printable ASCII characters without \" \\ < > &", a.Attrs.Origin, a.Prefix, maxWord)
		}
	}
	for _, p := range e.Withdraw {
		if err := visit(p); err != nil {
			return err
		}
	}
	return nil
}
