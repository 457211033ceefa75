package selection

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/spread"
)

// trust is how much of it a candidate needs to carry the prefix. Less is asked only where nobody has more.
type trust uint8

// The levels, the highest first. First come those that are up: nobody else works. Then those that may forward, the likelier first. Then those that forward but are
// to carry nothing. What is left is dead. Of each of the last two sorts the one that is installed stays, since a move between two of those is worth no write.
const (
	trusted   trust = iota // no obstacle; or usable and installed
	up                     // in its hold-down, damped, or untold
	suspect                // as the state of that name
	lost                   // control-lost
	held                   // hold
	stays                  // draining, a last resort that has the prefix
	resort                 // draining, a last resort
	installed              // it has the prefix
	anybody                // it announces the prefix
)

// reason is why a candidate is chosen that has no more trust than this.
func (t trust) reason() Reason {
	switch t {
	case trusted:
		return Best
	case up:
		return Returning
	case suspect, lost, held, stays, resort, installed, anybody:
	}
	return LastHolder
}

// Choose picks among the candidates, of which there is at least one, and puts them in the order in which they are preferred. nextLook is when
// the answer may change without news; zero: never.
func Choose(q Question, list []Candidate) (choice Choice, nextLook time.Time) {
	slices.SortFunc(list, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(b.NVA.Preference, a.NVA.Preference), cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.NVA.Name, b.NVA.Name))
	})
	x := chooser{Question: q, list: list, first: -1}
	x.Stay = q.Stay && slices.ContainsFunc(list, func(c Candidate) bool { return c.Belief.State.Usable() && x.installed(c) })
	x.Settle = q.Settle && !x.Stay && slices.ContainsFunc(list, func(c Candidate) bool { obstacle, _ := x.obstacle(c); return obstacle == 0 })
	for t := trusted; x.first < 0; t++ { // at anybody it ends
		x.trust = t
		x.first = slices.IndexFunc(list, x.may)
	}
	choice = x.choose()
	nextLook = x.pass(&choice)
	if choice.Reason = x.trust.reason(); choice.Reason == Best && x.kept() {
		choice.Reason = Kept
	}
	return choice, nextLook
}

// chooser is a question on its way to an answer.
type chooser struct {
	Question
	list  []Candidate
	trust trust
	first int // the best candidate with that trust
}

// may reports whether the candidate has the trust that is asked.
func (x *chooser) may(c Candidate) bool {
	switch x.trust {
	case trusted:
		obstacle, _ := x.obstacle(c)
		return obstacle == 0 || c.Belief.State.Usable() && x.installed(c) && (!x.Settle || !x.young(c))
	case up:
		return c.Belief.State == liveness.Up
	case suspect:
		return c.Belief.State == liveness.Suspect
	case lost:
		return c.Belief.State == liveness.ControlLost
	case held:
		return c.Belief.State == liveness.Hold
	case stays:
		return c.Belief.LastResort && x.installed(c)
	case resort:
		return c.Belief.LastResort
	case installed:
		return x.installed(c)
	case anybody:
	}
	return true
}

// installed reports whether the candidate is a next hop of the prefix in the target.
func (x *chooser) installed(c Candidate) bool { return Carries(x.How, *c.NVA, x.Prefix, x.Installed) }

// Carries reports whether the NVA has p already, where those are p's next hops in the target.
func Carries(how config.Selection, n config.NVA, p netip.Prefix, installed route.NextHops) bool {
	if how.Mode == config.ModeNextHopIP {
		return installed.Contains(how.NextHop(p))
	}
	return installed.Contains(n.NextHop(p))
}

// obstacle says what keeps the candidate from taking the prefix from another one that works, and until when; zero: nothing.
func (x *chooser) obstacle(c Candidate) (Obstacle, time.Time) {
	switch {
	case c.Belief.State != liveness.Up:
		return NotUp, time.Time{}
	case c.Belief.Untold, x.Policy.HoldDown == config.Never && !c.Since.IsZero() && !c.Told.After(c.Since):
		return Untold, time.Time{}
	}
	back, calm := x.settled(c)
	held := later(c.Belief.Trusted, back)
	switch {
	case x.Now.Before(calm) && calm.After(held):
		return Damped, calm
	case x.Now.Before(held):
		return HoldDown, held
	case x.Stay && !x.installed(c):
		return Apart, time.Time{}
	}
	return 0, time.Time{}
}

// settled says when the announcement is old enough, and when it has been lost seldom enough; zero or past: it is.
func (x *chooser) settled(c Candidate) (back, calm time.Time) {
	if x.Policy.HoldDown != config.Never && !c.Since.IsZero() {
		back = roundUp(c.Since.Add(x.Policy.HoldDown), x.Policy.HoldDown)
	}
	return back, roundUp(damped(c.Losses, x.Policy.Damping), x.Policy.Damping.HalfLife)
}

// young reports whether the announcement came back too recently, or too often, to be trusted. Doubt about the NVA itself is another matter: while it lasts
// the NVA keeps what it has.
func (x *chooser) young(c Candidate) bool {
	back, calm := x.settled(c)
	return x.Policy.HoldDown != config.Never && (x.Now.Before(back) || x.Now.Before(calm))
}

// Unsettled reports whether Settle may change the choice among these candidates: one that has the prefix announced it again too recently.
func (q Question) Unsettled(list []Candidate) bool {
	x := chooser{Question: q}
	return len(list) > 1 && slices.ContainsFunc(list, func(c Candidate) bool { return c.Belief.State.Usable() && x.installed(c) && x.young(c) })
}

// grid is how far apart the instants lie at which prefixes return; where the wait itself is short it is a third of that.
const grid = 10 * time.Second

// roundUp returns the first instant of the grid that is not before t, where t is the end of a wait of this length.
func roundUp(t time.Time, wait time.Duration) time.Time {
	step := min(grid, wait/3)
	if t.IsZero() || step <= 0 {
		return t
	}
	if on := t.Truncate(step); on.Before(t) {
		return on.Add(step)
	}
	return t
}

// Leaves reports whether the choice among these candidates takes the prefix off a next hop that it may not keep.
func (q Question) Leaves(choice Choice, list []Candidate) bool {
	return slices.ContainsFunc(q.Installed.Without(choice.NextHops).Addrs(), func(hop netip.Addr) bool {
		return !slices.ContainsFunc(list, func(c Candidate) bool {
			return c.Belief.State.Usable() && Carries(q.How, *c.NVA, q.Prefix, route.NextHopsOf(hop))
		})
	})
}

func (x *chooser) choose() Choice {
	switch x.How.Mode {
	case config.ModeECMP:
		return x.equal()
	case config.ModeSpread:
		return x.dealt()
	case config.ModeNextHopIP:
		return x.fronted()
	case 0, config.ModePrimaryBackup:
	}
	return x.of(x.list[x.first])
}

// of returns the choice of these candidates.
func (x *chooser) of(list ...Candidate) Choice {
	c := Choice{Prefix: x.Prefix, NVAs: make([]string, len(list))}
	hops := make([]netip.Addr, len(list))
	for i, member := range list {
		c.NVAs[i], hops[i] = member.NVA.Name, member.NVA.NextHop(x.Prefix)
	}
	c.NextHops = route.NextHopsOf(hops...)
	return c
}

// equal picks the first candidate and all beside it.
func (x *chooser) equal() Choice {
	var members []Candidate
	for _, c := range x.list[x.first:] {
		if len(members) < x.How.MaxNextHops && x.may(c) && x.beside(c) {
			members = append(members, c)
		}
	}
	return x.of(members...)
}

// beside reports whether the candidate is as good as the first one: equal preference and metric, as multipath in BGP wants it.
func (x *chooser) beside(c Candidate) bool {
	return c.NVA.Preference == x.list[x.first].NVA.Preference && c.Metric == x.list[x.first].Metric
}

// dealt picks the candidate that the prefix's traffic is dealt to. Where that one does not announce the prefix, or may not carry it, the
// traffic goes to the next in the order of its key, among the most preferred. The metric does not count: it may differ between the two
// directions of a flow.
func (x *chooser) dealt() Choice {
	key := x.Spreading.key(x.Prefix)
	now, later := x.Spreading.now.owner(key), x.Spreading.later.owner(key)
	named := func(name string) int {
		return slices.IndexFunc(x.list, func(c Candidate) bool { return c.NVA.Name == name && x.may(c) })
	}
	if i := named(later); i >= 0 && x.installed(x.list[i]) {
		return x.of(x.list[i])
	}
	if i := named(now); i >= 0 {
		return x.of(x.list[i])
	}
	var nodes []spread.Node
	for _, c := range x.list[x.first:] {
		if x.may(c) && c.NVA.Preference == x.list[x.first].NVA.Preference {
			nodes = append(nodes, node(*c.NVA))
		}
	}
	return x.of(x.list[named(spread.Best(key, nodes))])
}

// fronted picks the address that stands for all NVAs that may carry the prefix.
func (x *chooser) fronted() Choice {
	c := Choice{Prefix: x.Prefix, NextHops: route.NextHopsOf(x.How.NextHop(x.Prefix))}
	for _, member := range x.list {
		if x.may(member) {
			c.NVAs = append(c.NVAs, member.NVA.Name)
		}
	}
	return c
}

// kept reports whether the best choice is only that for want of trust in others: it has the prefix, and is not known to be up, or one above it is up and
// waits.
func (x *chooser) kept() bool {
	waits := func(c Candidate) bool { return c.Belief.State == liveness.Up }
	return x.installed(x.list[x.first]) && (!waits(x.list[x.first]) || slices.ContainsFunc(x.list[:x.first], waits))
}

// pass notes who was passed over, and returns when the first obstacle goes away that may change the answer.
func (x *chooser) pass(choice *Choice) (nextLook time.Time) {
	for i, c := range x.list {
		if x.trust == trusted && (x.may(c) || i > x.first && !x.shares(c)) {
			continue
		}
		obstacle, until := x.obstacle(c)
		nextLook = Sooner(nextLook, until)
		if !slices.Contains(choice.NVAs, c.NVA.Name) {
			choice.Passed = append(choice.Passed, Passed{c.NVA.Name, obstacle, until})
		}
	}
	switch x.How.Mode {
	case config.ModeSpread:
		return Sooner(nextLook, x.Spreading.look)
	case config.ModeNextHopIP:
		return time.Time{} // one address stands for them all
	case 0, config.ModePrimaryBackup, config.ModeECMP:
	}
	return nextLook
}

// shares reports whether the candidate would have a share beside the first one, of the prefix or of the sites, but for an obstacle.
func (x *chooser) shares(c Candidate) bool {
	return x.How.Mode == config.ModeECMP && x.beside(c) || x.How.Mode == config.ModeSpread && c.NVA.Preference == x.list[x.first].NVA.Preference
}
