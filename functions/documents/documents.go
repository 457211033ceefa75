// Package documents reads and writes the documents and domain files in the state store.
//
//	domains/NAME.yaml          the domain file, written by people and deployments
//	accepted/NAME.yaml         the newest one that was valid
//	nvas/DOMAIN/NAME.json      what an NVA announces
//	targets/DOMAIN/NAME.json   what is known of a target
//	beliefs/DOMAIN.json        what the outside was told of a domain's NVAs
//	budgets/SUBSCRIPTION.json  what is known of the writes that are left in a subscription, while they are short
//	history/DOMAIN/NAME/YEAR-MONTH.jsonl
//	drift.json                 what the function Drift did with Azure's events
package documents

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/state"
)

// Blobs is a linearizable set of named values.
//
// Read returns fault.NotFound for a missing name. Write replaces the value only if it still has the ETag ifMatch, or creates
// it if ifMatch is empty, and answers fault.Conflict otherwise; an error of another kind means that the outcome is
// unknown. List returns the names below a prefix in order. Append adds a line to a log and creates it at need.
type Blobs interface {
	Read(ctx context.Context, name string) (data []byte, etag string, err error)
	Write(ctx context.Context, name string, data []byte, ifMatch string) (etag string, err error)
	List(ctx context.Context, prefix string) ([]string, error)
	Append(ctx context.Context, name string, line []byte) error
}

// Store gives the documents their types. It caches parsed domain files by ETag and nothing else.
type Store struct {
	blobs    Blobs
	parallel int

	mu      sync.Mutex
	domains map[string]Domain
}

// NewStore returns a store over blobs that reads at most parallel documents at once; with 1 it makes no goroutine.
func NewStore(blobs Blobs, parallel int) *Store {
	return &Store{blobs: blobs, parallel: parallel, domains: map[string]Domain{}}
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
	text, etag, err := s.blobs.Read(ctx, domainFile(name))
	if err != nil {
		return Domain{}, fmt.Errorf("domain file %s: %w", name, err)
	}
	if cached, ok := s.cached(name); ok && cached.ETag == etag {
		return cached, nil
	}
	d := Domain{ETag: etag}
	if d.Config, d.Problems = parse(name, text); len(d.Problems) > 0 {
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

func (s *Store) cached(name string) (Domain, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.domains[name]
	return d, ok
}

// parse checks also that the file is about the domain that its name says.
func parse(name string, text []byte) (*config.Domain, located.Problems) {
	d, problems := config.Parse(domainFile(name), text)
	if d != nil && d.Name != name {
		return nil, located.Problems{{File: domainFile(name), Field: "domain", Text: fmt.Sprintf("found %s, want %s as the file's name says", d.Name, name)}}
	}
	return d, problems
}

func (s *Store) lastGood(ctx context.Context, name string, problems located.Problems) (*config.Domain, error) {
	text, _, err := s.blobs.Read(ctx, acceptedFile(name))
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.Poison, "domain file %s is not valid, and no valid one came before it: %w", name, problems)
	}
	if err != nil {
		return nil, fmt.Errorf("last valid domain file %s: %w", name, err)
	}
	d, worse := parse(name, text)
	if len(worse) > 0 {
		return nil, fault.New(fault.Poison, "domain file %s is not valid, and neither is the last accepted one: %w", name, problems)
	}
	return d, nil
}

// accept keeps a valid file as the one to fall back to. Losing a race is fine: the winner stored a valid file too.
func (s *Store) accept(ctx context.Context, name string, text []byte) error {
	old, etag, err := s.blobs.Read(ctx, acceptedFile(name))
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

// NVA returns an NVA's document and its ETag; a new document with an empty ETag where there is none.
func (s *Store) NVA(ctx context.Context, domain, name string) (*state.NVA, string, error) {
	body, etag, err := s.blobs.Read(ctx, nvaFile(domain, name))
	if fault.Is(err, fault.NotFound) {
		return state.NewNVA(domain, name), "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("document of nva %s/%s: %w", domain, name, err)
	}
	doc, err := state.DecodeNVA(body)
	if err != nil {
		return nil, "", fault.New(fault.Bug, "%w", err)
	}
	return doc, etag, nil
}

// SaveNVA writes the document if it still has that ETag and returns the new one.
func (s *Store) SaveNVA(ctx context.Context, doc *state.NVA, etag string) (string, error) {
	body, err := state.EncodeNVA(doc)
	if err != nil {
		return "", fault.New(fault.Bug, "%w", err)
	}
	etag, err = s.blobs.Write(ctx, nvaFile(doc.Domain, doc.Name), body, etag)
	if err != nil {
		return "", fmt.Errorf("save document of nva %s/%s: %w", doc.Domain, doc.Name, err)
	}
	return etag, nil
}

// NVAs returns the documents of all NVAs of the domain file, by name; those that hold nothing are missing.
func (s *Store) NVAs(ctx context.Context, d *config.Domain) (map[string]*state.NVA, error) {
	docs := make([]*state.NVA, len(d.NVAs))
	errs := make([]error, len(d.NVAs))
	s.each(len(d.NVAs), func(i int) { docs[i], _, errs[i] = s.NVA(ctx, d.Name, d.NVAs[i].Name) })
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
	body, etag, err := s.blobs.Read(ctx, targetFile(domain, t.Name))
	if fault.Is(err, fault.NotFound) {
		return state.NewTarget(domain, t.Name, t.RouteTable), "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("document of target %s/%s: %w", domain, t.Name, err)
	}
	doc, err := state.DecodeTarget(body)
	if err != nil {
		return nil, "", fault.New(fault.Bug, "%w", err)
	}
	if !config.SameTable(doc.Table, t.RouteTable) {
		fresh := state.NewTarget(domain, t.Name, t.RouteTable)
		fresh.Outcomes = doc.Outcomes // what is still to be told happened all the same
		return fresh, etag, nil
	}
	return doc, etag, nil
}

// SaveTarget writes the document if it still has that ETag and returns the new one.
func (s *Store) SaveTarget(ctx context.Context, doc *state.Target, etag string) (string, error) {
	body, err := state.EncodeTarget(doc)
	if err != nil {
		return "", fault.New(fault.Bug, "%w", err)
	}
	etag, err = s.blobs.Write(ctx, targetFile(doc.Domain, doc.Name), body, etag)
	if err != nil {
		return "", fmt.Errorf("save document of target %s/%s: %w", doc.Domain, doc.Name, err)
	}
	return etag, nil
}

// Beliefs returns what was told of a domain's NVAs, and its ETag; a new document with an empty ETag where there is none.
func (s *Store) Beliefs(ctx context.Context, domain string) (*state.Beliefs, string, error) {
	return read(ctx, s.blobs, beliefsFile(domain), "beliefs of domain "+domain, state.DecodeBeliefs, func() *state.Beliefs { return state.NewBeliefs(domain) })
}

// SaveBeliefs writes the document if it still has that ETag and returns the new one.
func (s *Store) SaveBeliefs(ctx context.Context, doc *state.Beliefs, etag string) (string, error) {
	return save(ctx, s.blobs, beliefsFile(doc.Domain), "beliefs of domain "+doc.Domain, doc, state.EncodeBeliefs, etag)
}

// DriftCounts returns what the function Drift did with Azure's events, and its ETag; a new document with an empty ETag where there is none.
func (s *Store) DriftCounts(ctx context.Context) (*state.DriftCounts, string, error) {
	return read(ctx, s.blobs, driftFile, "counts of drift", state.DecodeDriftCounts, state.NewDriftCounts)
}

// SaveDriftCounts writes the document if it still has that ETag and returns the new one.
func (s *Store) SaveDriftCounts(ctx context.Context, doc *state.DriftCounts, etag string) (string, error) {
	return save(ctx, s.blobs, driftFile, "counts of drift", doc, state.EncodeDriftCounts, etag)
}

// read returns a document and its ETag; a fresh one with an empty ETag where there is none.
func read[D any](ctx context.Context, blobs Blobs, name, what string, decode func([]byte) (D, error), fresh func() D) (doc D, etag string, err error) {
	var none D
	body, etag, err := blobs.Read(ctx, name)
	if fault.Is(err, fault.NotFound) {
		return fresh(), "", nil
	}
	if err != nil {
		return none, "", fmt.Errorf("%s: %w", what, err)
	}
	if doc, err = decode(body); err != nil {
		return none, "", fault.New(fault.Bug, "%w", err)
	}
	return doc, etag, nil
}

func save[D any](ctx context.Context, blobs Blobs, name, what string, doc D, encode func(D) ([]byte, error), etag string) (string, error) {
	body, err := encode(doc)
	if err != nil {
		return "", fault.New(fault.Bug, "%w", err)
	}
	if etag, err = blobs.Write(ctx, name, body, etag); err != nil {
		return "", fmt.Errorf("save %s: %w", what, err)
	}
	return etag, nil
}

// AppendHistory adds a line to the target's history of the month of at.
func (s *Store) AppendHistory(ctx context.Context, domain, target string, at time.Time, line []byte) error {
	name := fmt.Sprintf("history/%s/%s/%s.jsonl", domain, target, at.UTC().Format("2006-01"))
	if err := s.blobs.Append(ctx, name, append(line, '\n')); err != nil {
		return fmt.Errorf("history of target %s/%s: %w", domain, target, err)
	}
	return nil
}

const driftFile = "drift.json"

func beliefsFile(domain string) string      { return "beliefs/" + domain + ".json" }
func domainFile(name string) string         { return "domains/" + name + ".yaml" }
func acceptedFile(name string) string       { return "accepted/" + name + ".yaml" }
func nvaFile(domain, name string) string    { return "nvas/" + domain + "/" + name + ".json" }
func targetFile(domain, name string) string { return "targets/" + domain + "/" + name + ".json" }
