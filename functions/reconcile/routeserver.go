package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

// Peers reads and writes the BGP peers of Route Servers, which take one operation at a time.
//
// List is never answered from a cache. Begin sends one request, once, and only if the peer still has the step's ETag (else fault.Conflict; a service that does not heed
// that refuses nothing); its token is empty if the operation has ended already. After an error of the kind Transient it may have begun or not.
// Follow asks once, in any process, how an operation is doing: done with an error, it has ended badly, or nobody knows of it (fault.NotFound); not done with one, it
// could not be asked.
type Peers interface {
	List(ctx context.Context, hub string) ([]peering.Peer, error)
	Begin(ctx context.Context, hub string, step peering.Step) (peering.Begun, error)
	Follow(ctx context.Context, hub string, kind peering.Kind, token string) (peering.Progress, error)
}

// Learned reads what the instances of a Route Server have learned from a peer: a slow call, whose answer is fetched by a token. Errors of Answer are as with Peers.Follow.
type Learned interface {
	Ask(ctx context.Context, hub, peer string) (peering.Begun, error)
	Answer(ctx context.Context, hub, token string) ([]peering.Instance, peering.Progress, error)
}

// A Route Server is kept in many short runs. Its operations take more than a minute each, so none is waited for: each message looks how the one in flight is doing, and
// sends the next message. The order of effects of a run, between the intent and the result that every run has (reconcile):
//
//  1. an operation with a token: ask after it;
//  2. none, or nobody knows whether it has begun: list the peers, which are the truth whatever was written down before, and plan. While any peer is in work nothing is begun;
//  3. save the step, without a token, and the peer's name as ours;
//  4. begin the operation: one conditional request;
//  5. save the token;
//  6. ask what was learned from the NVAs where that is due, fetch what was asked before, compare, and note how the NVAs stand;
//  7. the result; then the message that looks on, then the wakes of the tables that go by how an NVA stands, and the note that they were sent.
//
// Killed after 3 or 4, the next run finds a step without a token and goes by the list. Two runs that overlap begin one operation: the service refuses the second.
// Killed before the end of 7, the note is still there and the next run sends the wakes.

// The waits where the service names none.
const (
	operationFirst = time.Second // between two looks at an operation, doubled with each
	operationMost  = 10 * time.Second
	operationLimit = 30 * time.Minute // Azure's take about 80 s: the token of one that takes longer is given up, and the list believed
)

// When it is looked at what was learned.
const (
	settleTime   = 15 * time.Second // after news, so that BGP has carried it
	lookAge      = 4 * time.Minute  // the least between two looks of sweeps
	failoverLook = 10 * time.Second // between two looks at an NVA that is not usable and may still be listed
)

// The codes of results of Route Servers.
const (
	codePeerBlocked = "PeerBlocked"
	codeNoService   = "NoRouteServerService"
)

// server is a run's work on a Route Server.
type server struct {
	*run
	hub  config.RouteServer
	docs map[string]*state.NVA
	live liveness.View

	listed bool // the peers that are known were read just now
}

// serve is steps 1 to 6.
func (x *run) serve(ctx context.Context) (ended, error) {
	if x.Peers == nil || x.Learned == nil {
		return ended{Result: state.Result{Outcome: state.Failed, Code: codeNoService, Message: "this function app keeps no Route Servers"}}, nil
	}
	docs, err := x.Store.NVAs(ctx, x.domain)
	if err != nil {
		return ended{}, err
	}
	if x.known == nil {
		x.known = x.doc.RouteServer.Copy()
	}
	s := &server{run: x, hub: *x.server, docs: docs, live: liveness.Judge(x.domain, docs, x.Now())}
	e, err := s.peers(ctx)
	if err != nil {
		return ended{}, err
	}
	s.learn(ctx)
	e.server = s
	e.Routes, e.Warnings = len(s.known.Peers), s.warnings()
	return e, nil
}

// peers brings the peers one step nearer to what the domain file says: steps 1 to 5.
func (s *server) peers(ctx context.Context) (ended, error) {
	for range maxRounds {
		if failed := s.follow(ctx); failed != nil {
			return trouble(failed), nil
		}
		if s.inFlight() {
			return s.waits(), nil
		}
		e, again, err := s.step(ctx)
		if err != nil || !again {
			return e, err
		}
	}
	return ended{Result: state.Result{Outcome: state.Failed, Message: fmt.Sprintf("the peers changed during each of %d tries", maxRounds)}}, nil
}

// inFlight reports whether an operation of ours is followed by its token.
func (s *server) inFlight() bool { return s.known.Operation != nil && s.known.Operation.Token != "" }

// waits is the end of a run that leaves an operation to a later one.
func (s *server) waits() ended {
	op := s.known.Operation
	return ended{Result: state.Result{Outcome: state.Waiting, Message: fmt.Sprintf("%s is in work since %s", op.Step, op.Began.UTC().Format(time.RFC3339))}}
}

// follow asks after an operation that is due. It returns why one has ended badly.
func (s *server) follow(ctx context.Context) error {
	op := s.known.Operation
	if op == nil || op.Token == "" || s.Now().Before(op.Look) {
		return nil
	}
	progress, err := s.Peers.Follow(ctx, s.hub.VirtualHub, op.Kind, op.Token)
	switch {
	case progress.Done && fault.Is(err, fault.NotFound): // of which nobody knows any more
		s.log.WarnContext(ctx, "an operation on a peer cannot be followed, going by the list of peers", slog.String("operation", op.String()), slog.Any("error", err))
		op.Token = ""
	case progress.Done:
		s.ended(ctx, err)
		return err
	case s.Now().Sub(op.Began) > operationLimit:
		s.log.WarnContext(ctx, "an operation on a peer takes too long, going by the list of peers", slog.String("operation", op.String()), slog.Any("error", err))
		op.Token = ""
	default:
		if err != nil {
			s.log.WarnContext(ctx, "an operation on a peer could not be asked after", slog.String("operation", op.String()), slog.Any("error", err))
			progress.After = max(progress.After, fault.RetryAfter(err))
		}
		op.Look = s.Now().Add(pause(op.Asks, progress.After))
		op.Asks++
	}
	return nil
}

// pause is how long to wait before the next look: what the service asks for, or twice as long each time.
func pause(asks int, after time.Duration) time.Duration {
	return orElse(after, min(operationFirst<<min(asks, 10), operationMost))
}

// ended notes the end of the operation, with why it is a bad one.
func (s *server) ended(ctx context.Context, failed error) {
	op := s.known.Operation
	s.known.Operation = nil
	if failed == nil {
		s.done++
		s.known.LookAt = selection.Sooner(s.known.LookAt, s.Now().Add(settleTime))
		switch op.Kind {
		case peering.Create:
			s.total.added++
		case peering.Replace:
			s.total.changed++
		case peering.Delete:
			s.total.removed++
		}
	}
	s.chronicle(ctx, op, failed)
}

// step lists, plans and begins: steps 2 to 5. again says that the peers must be looked at once more.
func (s *server) step(ctx context.Context) (e ended, again bool, _ error) {
	have, err := s.Peers.List(ctx, s.hub.VirtualHub)
	if err != nil {
		return trouble(err), false, nil
	}
	s.known.Peers, s.known.Read, s.listed = have, s.Now(), true
	p := peering.Make(peering.Wants(s.domain, s.hub), have, s.rules())
	if op := s.known.Operation; op != nil && p.Busy == "" { // it has ended, or never begun: the list says which
		s.settled(ctx, op, have)
	}
	for _, b := range p.Blocked {
		e.Blocked = append(e.Blocked, b.String())
	}
	next, more := p.Next()
	_, why, shown := view{doc: s.doc, target: s.target}.onlyShown()
	switch {
	case p.Busy != "" && s.known.Operation != nil:
		s.known.Operation.Look = s.Now().Add(operationMost)
		e.Outcome, e.Message = state.Waiting, s.waits().Message
	case p.Busy != "":
		e.Outcome, e.Message, e.retry = state.Busy, "peer "+p.Busy+" is in work by another hand: the Route Server takes one operation at a time", operationMost
	case more && shown:
		e.Outcome, e.Message = state.Observed, fmt.Sprintf("%d operations are not begun, the first is %s: %s", len(p.Steps), next, why)
	case more:
		return s.begin(ctx, next)
	case len(p.Blocked) > 0:
		e.Outcome, e.Code = state.Refused, codePeerBlocked
		e.Message = strings.Join(e.Blocked, "; ") + ": remove what is in the way, or take the peer out of the domain file"
	default:
		e.Outcome = state.Unchanged
	}
	return e, false, nil
}

func (s *server) rules() peering.Rules {
	return peering.Rules{NamePrefix: s.domain.Policy.RouteNamePrefix, Owned: s.doc.Owns, MaxPeers: s.hub.MaxPeers}
}

// settled notes the end of an operation that could not be followed, by what there is now.
func (s *server) settled(ctx context.Context, op *state.PeerOperation, have []peering.Peer) {
	i := slices.IndexFunc(have, func(p peering.Peer) bool { return strings.EqualFold(p.Name, op.Name) })
	gone := op.Kind == peering.Delete
	if i < 0 && gone || i >= 0 && !gone && have[i].Address == op.Address && have[i].ASN == op.ASN && have[i].State == peering.Settled {
		s.ended(ctx, nil)
		return
	}
	s.log.WarnContext(ctx, "an operation on a peer has not begun, or not ended well", slog.String("operation", op.String()))
	s.known.Operation = nil
}

// begin is steps 3 to 5.
func (s *server) begin(ctx context.Context, step peering.Step) (e ended, again bool, _ error) {
	op := &state.PeerOperation{Step: step, Began: s.Now()}
	s.known.Operation = op
	if err := s.save(ctx, step.Name); err != nil {
		return e, false, err
	}
	if s.doc.Pause.On { // since
		s.known.Operation = nil
		return e, true, nil
	}
	s.sent++
	begun, err := s.Peers.Begin(ctx, s.hub.VirtualHub, step)
	if err != nil {
		return s.unbegun(ctx, err)
	}
	s.log.InfoContext(ctx, "operation on a peer begun", slog.String("operation", step.String()))
	if begun.Token == "" { // it has ended: the list says how
		return e, true, nil
	}
	op.Token, op.Look = begun.Token, s.Now().Add(pause(0, begun.After))
	if err = s.save(ctx); err != nil {
		return e, false, err
	}
	return s.waits(), false, nil
}

// save saves what is known, and names of ours.
func (s *server) save(ctx context.Context, names ...string) error {
	return s.update(ctx, func(doc *state.Target) {
		doc.Claim(names)
		doc.RouteServer = s.known.Copy()
	})
}

// unbegun says what follows from the refusal of an operation. Where nobody knows whether it was one, the step stays, without a token.
func (s *server) unbegun(ctx context.Context, err error) (e ended, again bool, _ error) {
	switch fault.KindOf(err) {
	case fault.Conflict:
		s.log.InfoContext(ctx, "a peer changed while it was read, once more", slog.Any("error", err))
		s.known.Operation = nil
		return e, true, nil
	case fault.Transient:
	case fault.Throttled, fault.NotFound, fault.Poison, fault.Denied, fault.Refused, fault.Bug:
		s.known.Operation = nil
	}
	return trouble(err), false, nil
}

// chronicle adds the end of an operation to the history, which is for people.
func (s *server) chronicle(ctx context.Context, op *state.PeerOperation, failed error) {
	line := peerLine{
		At: s.Now(), Domain: s.wake.Domain, Target: s.target.Name, Hub: s.hub.VirtualHub, Run: s.id, Cause: s.wake.Cause,
		Peer: peerChange{Operation: op.Kind, Name: op.Name, Address: op.Address.String(), ASN: op.ASN, Seconds: s.Now().Sub(op.Began).Seconds()},
	}
	level := slog.LevelInfo
	if failed != nil {
		line.Peer.Error, level = failed.Error(), slog.LevelWarn
	}
	s.log.LogAttrs(ctx, level, "operation on a peer ended", slog.String("operation", op.String()), slog.Float64("seconds", line.Peer.Seconds), slog.String("error", line.Peer.Error))
	if err := s.Store.AppendHistory(ctx, s.wake.Domain, s.target.Name, s.Now(), line); err != nil {
		s.log.ErrorContext(ctx, "the history lacks a line", slog.Any("error", err))
	}
}

// peerLine is the history's line for one operation on one peer.
type peerLine struct {
	At     time.Time  `json:"at"`
	Domain string     `json:"domain"`
	Target string     `json:"target"`
	Hub    string     `json:"virtualHub"`
	Run    string     `json:"run"`
	Cause  string     `json:"cause"`
	Peer   peerChange `json:"peer"`
}

type peerChange struct {
	Operation peering.Kind `json:"operation"`
	Name      string       `json:"name"`
	Address   string       `json:"address"`
	ASN       uint32       `json:"asn"`
	Seconds   float64      `json:"seconds"` // from its beginning until its end was seen
	Error     string       `json:"error,omitempty"`
}

// record writes what a run on a Route Server leaves into the document.
func (s *server) record(doc *state.Target, e ended) {
	doc.RouteServer = s.known.Copy()
	doc.Applied = revisions(s.docs)
	if a := &doc.Approval; a.Open() {
		a.Ended, a.End = e.At, "void: operations on a Route Server's peers need no approval"
	}
	// A name may only be forgotten where no operation of ours can be on its way.
	if doc != s.doc || len(doc.Intents) > 0 || s.known.Operation != nil || e.Outcome != state.Unchanged {
		return
	}
	keep := map[string]bool{}
	for _, p := range s.known.Peers {
		keep[strings.ToLower(p.Name)] = true
	}
	for _, w := range peering.Wants(s.domain, s.hub) {
		keep[strings.ToLower(w.Name)] = true
	}
	doc.Disown(keep)
}

// lookOn sends what must be looked at later, and then tells the tables: the end of step 7.
func (s *server) lookOn(ctx context.Context) error {
	if at := s.nextLook(); !at.IsZero() {
		if err := s.againAt(ctx, s.wake, "look", at, 0); err != nil {
			return err
		}
	}
	if s.doc.RouteServer == nil || !s.doc.RouteServer.Tell {
		return nil
	}
	for _, t := range s.domain.Targets {
		if err := s.again(ctx, s.wakeFor(t.Name), "route-server/"+s.id, 0, 0); err != nil {
			return err
		}
	}
	s.doc.RouteServer.Tell = false
	saved, err := s.Store.SaveTarget(ctx, s.doc, s.etag)
	switch {
	case err == nil:
		s.etag = saved
	case fault.Is(err, fault.Conflict): // the note stays, and the next run sends the wakes again
	default:
		return err
	}
	return nil
}

// nextLook returns when time alone changes the answer; zero: never.
func (s *server) nextLook() time.Time {
	at := s.known.LookAt
	if op := s.known.Operation; op != nil {
		at = selection.Sooner(at, op.Look)
	}
	for _, a := range s.known.Asked {
		at = selection.Sooner(at, a.Look)
	}
	for _, p := range s.hub.Peers {
		at = selection.Sooner(at, s.doubt(p.NVA))
	}
	return at
}
