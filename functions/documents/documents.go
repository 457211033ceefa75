// Package documents reads and writes the documents and domain files in the state store.
//
//	domains/NAME.yaml          the domain file, written by people and deployments
//	accepted/NAME.yaml         the newest one that was valid
//	nvas/DOMAIN/NAME.json      what an NVA announces
//	targets/DOMAIN/NAME.json   what is known of a target
//	beliefs/DOMAIN.json        what the outside was told of a domain's NVAs
//	budgets/SUBSCRIPTION.json  what is known of the writes that are left in a subscription, while they are short
//	history/DOMAIN/NAME/YEAR-MONTH-DAY.jsonl
//	drift.json                 what the function Drift did with Azure's events
package documents

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/state"
)

// Blobs is a linearizable set of named values.
//
// Read returns fault.NotFound for a missing name. If the value still has the ETag known, Read answers with that ETag and without data: the answer
// is as current as any other, only the value is not sent again. An empty known asks for the value in any case. Write replaces the value only if it still has the ETag ifMatch, or creates
// it if ifMatch is empty, and answers fault.Conflict otherwise; an error of another kind means that the outcome is
// unknown. List returns the names below a prefix in order. Append adds a line to a log and creates it at need.
type Blobs interface {
	Read(ctx context.Context, name, known string) (data []byte, etag string, err error)
	Write(ctx context.Context, name string, data []byte, ifMatch string) (etag string, err error)
	List(ctx context.Context, prefix string) ([]string, error)
	Append(ctx context.Context, name string, line []byte) error
}

// Store gives the documents their types. It keeps what it has read or written, by ETag, to save the transfer and the decoding, never the question: every
// read asks the store. So a read that begins after a write has ended sees that write, whoever wrote.
type Store struct {
	blobs    Blobs
	parallel int
	codecs   Codecs
	texts    *cache[[]byte]
	nvas     *cache[*state.NVA]
	targets  *cache[*state.Target]
	files    *cache[parsed] // by their text

	mu      sync.Mutex
	domains map[string]Domain
}

// cacheSize bounds each generation of each cache, in bytes of JSON; decoded, a document takes about ten times its text. Twice this is about 500 NVAs of
// 1,000 prefixes.
const cacheSize = 4 << 20

// Codec makes text of documents, and documents of text. The store changes nothing of what it reads: those who may want to get copies.
type Codec[D any] struct {
	Encode func(D) ([]byte, error)
	Decode func([]byte) (D, error)
}

// Codecs are those of what nearly every call reads or writes.
type Codecs struct {
	NVA    Codec[*state.NVA]
	Target Codec[*state.Target]
	Line   func(any) ([]byte, error)                                         // of a history
	Domain func(file string, text []byte) (*config.Domain, located.Problems) // as config.Parse
}

// JSON is how documents are stored.
func JSON() Codecs {
	return Codecs{NVA: Codec[*state.NVA]{state.EncodeNVA, state.DecodeNVA}, Target: Codec[*state.Target]{state.EncodeTarget, state.DecodeTarget}, Line: json.Marshal, Domain: config.Parse}
}

// NewStore returns a store over blobs that reads at most parallel documents at once; with 1 it makes no goroutine.
func NewStore(blobs Blobs, parallel int) *Store { return NewStoreOf(JSON(), blobs, parallel) }

// NewStoreOf is NewStore with other codecs: the simulator's, whose store lasts no longer than its process, encode nothing.
func NewStoreOf(codecs Codecs, blobs Blobs, parallel int) *Store {
	return &Store{
		blobs: blobs, parallel: parallel, codecs: codecs, domains: map[string]Domain{},
		texts: newCache[[]byte](cacheSize), nvas: newCache[*state.NVA](cacheSize), targets: newCache[*state.Target](cacheSize),
		files: newCache[parsed](cacheSize),
	}
}

// Domain is a domain file in force.
type Domain struct {
	Config   *config.Domain
	ETag     string           // of the file in domains/, valid or not
	Problems located.Problems // what is wrong with that file; then Config is the last good one
}

// Domain returns the domain file in force. A file that is not valid changes nothing: the last valid one stays in force, and Problems says
// what is wrong with the newest. fault.NotFound: there is no such file; fault.Poison: there is one, and there was never a valid one.
func (s *Store) Domain(ctx context.Context, name string) (Domain, error) {
	cached := s.cached(name)
	text, etag, err := s.blobs.Read(ctx, domainFile(name), cached.ETag)
	if err != nil {
		return Domain{}, fmt.Errorf("domain file %s: %w", name, err)
	}
	if cached.ETag != "" && etag == cached.ETag {
		return cached, nil
	}
	d := Domain{ETag: etag}
	if d.Config, d.Problems = s.parse(name, text); len(d.Problems) > 0 {
		d.Config, err = s.lastGood(ctx, name, d.Problems)
	} else {
		err = s.accept(ctx, name, text)
	}
	if err != nil {
		return d, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.domains[name] = d
	return d, nil
}

// cached returns the domain file as it was read last; without an ETag if it never was.
func (s *Store) cached(name string) Domain {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.domains[name]
}

// parsed is a domain file that was read, in force or not.
type parsed struct {
	config   *config.Domain
	problems located.Problems
}

// parse is parseNew, done once for a text: the last valid file was the newest before, and a mistake is mended by what was there.
func (s *Store) parse(name string, text []byte) (*config.Domain, located.Problems) {
	key := name + ": " + string(text)
	p := s.files.get(key).doc
	if p.config == nil && p.problems == nil {
		p.config, p.problems = s.parseNew(name, text)
		s.files.keep(key, kept[parsed]{doc: p, size: len(text)})
	}
	return p.config, p.problems
}

// parseNew checks also that the file is about the domain that its name says.
func (s *Store) parseNew(name string, text []byte) (*config.Domain, located.Problems) {
	d, problems := s.codecs.Domain(domainFile(name), text)
	if d != nil && d.Name != name {
		return nil, located.Problems{{File: domainFile(name), Field: "domain", Text: fmt.Sprintf("found %s, want %s as the file's name says", d.Name, name)}}
	}
	return d, problems
}

func (s *Store) lastGood(ctx context.Context, name string, problems located.Problems) (*config.Domain, error) {
	text, _, err := s.blobs.Read(ctx, acceptedFile(name), "")
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.Poison, "domain file %s is not valid, and no valid one came before it: %w", name, problems)
	}
	if err != nil {
		return nil, fmt.Errorf("last valid domain file %s: %w", name, err)
	}
	d, worse := s.parse(name, text)
	if len(worse) > 0 {
		return nil, fault.New(fault.Poison, "domain file %s is not valid, and neither is the last accepted one: %w", name, problems)
	}
	return d, nil
}

// accept keeps a valid file as the one to fall back to. Losing a race is fine: the winner stored a valid file too.
func (s *Store) accept(ctx context.Context, name string, text []byte) error {
	old, etag, err := s.blobs.Read(ctx, acceptedFile(name), "")
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("last valid domain file %s: %w", name, err)
	}
	if err == nil && string(old) == string(text) {
		return nil
	}
	if _, err = s.blobs.Write(ctx, acceptedFile(name), text, etag); err != nil && !fault.Is(err, fault.Conflict) {
		return fmt.Errorf("accept domain file %s: %w", name, err)
	}
	return nil
}

// Domains returns the names of all domain files.
func (s *Store) Domains(ctx context.Context) ([]string, error) {
	files, err := s.blobs.List(ctx, "domains/")
	if err != nil {
		return nil, fmt.Errorf("list domain files: %w", err)
	}
	var names []string
	for _, f := range files {
		name, yaml := strings.CutSuffix(strings.TrimPrefix(f, "domains/"), ".yaml")
		if yaml && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	return names, nil
}

// text returns a document's text, which is only sent if it is not the one that is kept.
func (s *Store) text(ctx context.Context, name string) (text []byte, etag string, err error) {
	known := s.texts.get(name)
	text, etag, err = s.blobs.Read(ctx, name, known.etag)
	switch {
	case err != nil:
		return nil, "", err
	case known.is(etag):
		return known.doc, etag, nil
	}
	s.texts.keep(name, kept[[]byte]{text, etag, len(text)})
	return text, etag, nil
}

// write writes a document if it still has the ETag, and keeps its text.
func (s *Store) write(ctx context.Context, name string, text []byte, ifMatch string) (etag string, err error) {
	if etag, err = s.blobs.Write(ctx, name, text, ifMatch); err != nil {
		return "", err
	}
	s.texts.keep(name, kept[[]byte]{text, etag, len(text)})
	return etag, nil
}

// NVA returns an NVA's document, the caller's own, and its ETag; a new document with an empty ETag where there is none.
func (s *Store) NVA(ctx context.Context, domain, name string) (*state.NVA, string, error) {
	doc, etag, err := s.sharedNVA(ctx, domain, name)
	if err != nil {
		return nil, "", err
	}
	return doc.Copy(), etag, nil
}

// SaveNVA writes the document if it still has that ETag and returns the new one.
func (s *Store) SaveNVA(ctx context.Context, doc *state.NVA, etag string) (string, error) {
	return save(ctx, s, nvaFile(doc.Domain, doc.Name), "document of nva "+doc.Domain+"/"+doc.Name, doc, s.codecs.NVA.Encode, etag)
}

// sharedNVA is NVA with a document that belongs to all callers: it must not be changed.
func (s *Store) sharedNVA(ctx context.Context, domain, name string) (*state.NVA, string, error) {
	fresh := func() *state.NVA { return state.NewNVA(domain, name) }
	return shared(ctx, s, s.nvas, nvaFile(domain, name), "document of nva "+domain+"/"+name, s.codecs.NVA.Decode, fresh)
}

// NVAs returns the documents of all NVAs of the domain file, by name; those that hold nothing are missing. Other callers may hold the same documents: they must
// not be changed.
func (s *Store) NVAs(ctx context.Context, d *config.Domain) (map[string]*state.NVA, error) {
	docs := make([]*state.NVA, len(d.NVAs))
	errs := make([]error, len(d.NVAs))
	s.each(len(d.NVAs), func(i int) { docs[i], _, errs[i] = s.sharedNVA(ctx, d.Name, d.NVAs[i].Name) })
	out := map[string]*state.NVA{}
	for i, doc := range docs {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if doc.Heard() || doc.Silent() || doc.Order.ID != "" || doc.Refused.Count > 0 {
			out[doc.Name] = doc
		}
	}
	return out, nil
}

// each calls do for 0 to n-1, at most s.parallel at once.
func (s *Store) each(n int, do func(i int)) {
	if s.parallel <= 1 {
		for i := range n {
			do(i)
		}
		return
	}
	var all sync.WaitGroup
	slots := make(chan struct{}, s.parallel)
	for i := range n {
		slots <- struct{}{}
		all.Go(func() { do(i); <-slots })
	}
	all.Wait()
}

// Target returns a target's document and its ETag; a new document with an empty ETag where there is none, or where the domain file now
// names another table.
func (s *Store) Target(ctx context.Context, domain string, t config.Target) (*state.Target, string, error) {
	fresh := func() *state.Target { return state.NewTarget(domain, t.Name, t.RouteTable) }
	doc, etag, err := shared(ctx, s, s.targets, targetFile(domain, t.Name), "document of target "+domain+"/"+t.Name, s.codecs.Target.Decode, fresh)
	if err != nil {
		return nil, "", err
	}
	if config.SameTable(doc.Table, t.RouteTable) {
		return doc.Copy(), etag, nil
	}
	other := fresh()
	other.Outcomes = doc.Outcomes // what is still to be told happened all the same
	return other, etag, nil
}

// SaveTarget writes the document if it still has that ETag and returns the new one.
func (s *Store) SaveTarget(ctx context.Context, doc *state.Target, etag string) (string, error) {
	return save(ctx, s, targetFile(doc.Domain, doc.Name), "document of target "+doc.Domain+"/"+doc.Name, doc, s.codecs.Target.Encode, etag)
}

// Beliefs returns what was told of a domain's NVAs, and its ETag; a new document with an empty ETag where there is none.
func (s *Store) Beliefs(ctx context.Context, domain string) (*state.Beliefs, string, error) {
	return read(ctx, s, beliefsFile(domain), "beliefs of domain "+domain, fromText(state.DecodeBeliefs), func() *state.Beliefs { return state.NewBeliefs(domain) })
}

// SaveBeliefs writes the document if it still has that ETag and returns the new one.
func (s *Store) SaveBeliefs(ctx context.Context, doc *state.Beliefs, etag string) (string, error) {
	return save(ctx, s, beliefsFile(doc.Domain), "beliefs of domain "+doc.Domain, doc, state.EncodeBeliefs, etag)
}

// Orders returns which orders about a domain were refused, and the document's ETag; a new document with an empty ETag where there is none.
func (s *Store) Orders(ctx context.Context, domain string) (*state.Orders, string, error) {
	return read(ctx, s, ordersFile(domain), "orders of domain "+domain, fromText(state.DecodeOrders), func() *state.Orders { return state.NewOrders(domain) })
}

// SaveOrders writes the document if it still has that ETag and returns the new one.
func (s *Store) SaveOrders(ctx context.Context, doc *state.Orders, etag string) (string, error) {
	return save(ctx, s, ordersFile(doc.Domain), "orders of domain "+doc.Domain, doc, state.EncodeOrders, etag)
}

// DriftCounts returns what the function Drift did with Azure's events, and its ETag; a new document with an empty ETag where there is none.
func (s *Store) DriftCounts(ctx context.Context) (*state.DriftCounts, string, error) {
	return read(ctx, s, driftFile, "counts of drift", fromText(state.DecodeDriftCounts), state.NewDriftCounts)
}

// SaveDriftCounts writes the document if it still has that ETag and returns the new one.
func (s *Store) SaveDriftCounts(ctx context.Context, doc *state.DriftCounts, etag string) (string, error) {
	return save(ctx, s, driftFile, "counts of drift", doc, state.EncodeDriftCounts, etag)
}

// shared is read for documents that are kept as they were decoded: they belong to all callers.
func shared[D any](ctx context.Context, s *Store, docs *cache[D], name, what string, decode func([]byte) (D, error), fresh func() D) (D, string, error) {
	return read(ctx, s, name, what, func(text []byte, etag string) (D, error) {
		if known := docs.get(name); known.is(etag) {
			return known.doc, nil
		}
		doc, err := decode(text)
		if err == nil {
			docs.keep(name, kept[D]{doc, etag, len(text)})
		}
		return doc, err
	}, fresh)
}

// read returns a document and its ETag; a fresh one with an empty ETag where there is none.
func read[D any](ctx context.Context, s *Store, name, what string, decode func(text []byte, etag string) (D, error), fresh func() D) (doc D, etag string, err error) {
	var none D
	text, etag, err := s.text(ctx, name)
	if fault.Is(err, fault.NotFound) {
		return fresh(), "", nil
	}
	if err != nil {
		return none, "", fmt.Errorf("%s: %w", what, err)
	}
	if doc, err = decode(text, etag); err != nil {
		return none, "", fault.New(fault.Bug, "%w", err)
	}
	return doc, etag, nil
}

// fromText is a decoder of texts for read.
func fromText[D any](decode func([]byte) (D, error)) func([]byte, string) (D, error) {
	return func(text []byte, _ string) (D, error) { return decode(text) }
}

func save[D any](ctx context.Context, s *Store, name, what string, doc D, encode func(D) ([]byte, error), etag string) (string, error) {
	text, err := encode(doc)
	if err != nil {
		return "", fault.New(fault.Bug, "%w", err)
	}
	if etag, err = s.write(ctx, name, text, etag); err != nil {
		if fault.Is(err, fault.Conflict) {
			telemetry.Of(ctx).Add(telemetry.Conflicts, 1)
		}
		return "", fmt.Errorf("save %s: %w", what, err)
	}
	return etag, nil
}

// AppendHistory adds a line to the target's history of the day of at.
func (s *Store) AppendHistory(ctx context.Context, domain, target string, at time.Time, line any) error {
	text, err := s.codecs.Line(line)
	if err != nil {
		return fault.New(fault.Bug, "history of target %s/%s: %w", domain, target, err)
	}
	name := fmt.Sprintf("history/%s/%s/%s.jsonl", domain, target, at.UTC().Format(time.DateOnly))
	if err = s.blobs.Append(ctx, name, append(text, '\n')); err != nil {
		return fmt.Errorf("history of target %s/%s: %w", domain, target, err)
	}
	return nil
}

const driftFile = "drift.json"

func beliefsFile(domain string) string      { return "beliefs/" + domain + ".json" }
func ordersFile(domain string) string       { return "orders/" + domain + ".json" }
func domainFile(name string) string         { return "domains/" + name + ".yaml" }
func acceptedFile(name string) string       { return "accepted/" + name + ".yaml" }
func nvaFile(domain, name string) string    { return "nvas/" + domain + "/" + name + ".json" }
func targetFile(domain, name string) string { return "targets/" + domain + "/" + name + ".json" }
