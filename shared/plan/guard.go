package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// Sizes are what the guards go by, in routes.
type Sizes struct {
	Routes, Managed, Twins int // in the table as read; twins are managed routes that go whatever is wanted
	Added, Removed         int // by the plan
	Moved                  int // by the plan, away from a next hop that works
	Released               int // removals, beside Removed, that no guard is for
}

// after returns how many routes the table has with all additions, and with the removals if they are made.
func (s Sizes) after(removed bool) int {
	n := s.Routes + s.Added - s.Twins - s.Released
	if removed {
		n -= s.Removed
	}
	return n
}

// managed returns the managed routes as they will be if the removals are refused: with the additions, where those fit. The removals are
// measured against these; against the present ones the next plan, which finds the additions in the table, would remove what this one
// must not (invariant I5).
func (s Sizes) managed(limit int) int {
	if s.after(false) <= limit {
		return s.Managed + s.Added - s.Released
	}
	return s.Managed - s.Released
}

// Left says which parts of a plan are left out, each by the code of the guard that wants it so; "" is a part that stays.
//
//	part                                    MinLive  share guard            limit
//	removals                                x        RemovalGuard           -
//	moves from a next hop that works        x        ChangeGuard            -
//	moves from one that does not            -        -                      -
//	additions                               -        -                      RouteLimit
type Left struct{ Removals, Moves, Additions string }

// Guard reports which parts of a plan are left out: what is more likely a mistake than news, and additions that the table cannot hold.
// override: the guards of shares let this plan pass.
func (r Rules) Guard(s Sizes, override bool) Left {
	var l Left
	few := r.Live < r.MinLive
	switch {
	case s.Removed == 0:
	case few:
		l.Removals = MinLive
	case !override && s.Removed >= r.MinRemoved && float64(s.Removed) > r.MaxRemovedShare*float64(s.managed(r.Limit)):
		l.Removals = RemovalGuard
	}
	if s.Added > 0 && s.after(l.Removals == "") > r.Limit {
		l.Additions = RouteLimit
	}
	switch {
	case s.Moved == 0:
	case few:
		l.Moves = MinLive
	case !override && r.MaxChangedShare > 0 && float64(s.Moved) > r.MaxChangedShare*float64(s.base(l)):
		l.Moves = ChangeGuard
	}
	return l
}

// base is what moves are measured against: the managed routes with the additions, if those are made. No later plan finds more of them (I5).
func (s Sizes) base(l Left) int {
	if l.Additions == "" {
		return s.Managed + s.Added - s.Released
	}
	return s.Managed - s.Released
}

// shares reports whether a guard of shares leaves anything out.
func (l Left) shares() bool { return l.Removals == RemovalGuard || l.Moves == ChangeGuard }

// guard leaves out what the rules refuse, and says so.
func (d *differ) guard(routes int) {
	size := Sizes{Routes: routes, Managed: len(d.managed), Twins: len(d.twins), Added: len(d.plan.Added), Removed: len(d.plan.Removed)}
	for _, c := range d.plan.Changed {
		if !d.dead(c) {
			size.Moved++
		}
	}
	for _, c := range d.plan.Removed {
		if d.released(c) {
			size.Removed--
			size.Released++
		}
	}
	left := d.rules.Guard(size, false)
	if left.shares() {
		passed := d.rules.Guard(size, true)
		whole := d.cut(passed)
		if d.plan.Whole = d.hash(whole); d.plan.Whole == d.rules.Override {
			d.plan.Whole, left = "", passed
		}
	}
	d.refuse(size, left)
	d.plan = d.cut(left)
}

func (d *differ) released(c Change) bool { return d.rules.Released != nil && d.rules.Released(c) }

func (d *differ) dead(c Change) bool { return d.rules.Dead != nil && d.rules.Dead(c) }

// cut returns the plan without the parts that are left out.
func (d *differ) cut(l Left) Plan {
	p := d.plan
	if l.Removals != "" {
		p.Removed = slices.DeleteFunc(slices.Clone(p.Removed), func(c Change) bool { return !d.released(c) })
	}
	if l.Moves != "" {
		p.Changed = slices.DeleteFunc(slices.Clone(p.Changed), func(c Change) bool { return !d.dead(c) })
	}
	if l.Additions != "" {
		p.Added = nil
	}
	return p
}

// refuse names what is left out, and what to do about it.
func (d *differ) refuse(s Sizes, l Left) {
	say := func(code, format string, args ...any) {
		d.plan.Refused = append(d.plan.Refused, Refusal{code, fmt.Sprintf(format, args...)})
	}
	const override = "or let this very plan pass once (pointsman approve TARGET --override --plan %s)"
	if l.Removals == RemovalGuard {
		say(RemovalGuard, "the plan would remove %d of %d managed routes, the guard allows %.0f%%: they stay; if the withdrawal is real, raise guards.maxRemoved in the domain file, "+override,
			s.Removed, s.managed(d.rules.Limit), d.rules.MaxRemovedShare*100, d.plan.Whole)
	}
	if l.Moves == ChangeGuard {
		say(ChangeGuard, "the plan would move %d of %d managed routes between next hops that work, the guard allows %.0f%%: they stay; if that is meant, raise guards.maxChanged in the domain file, "+override,
			s.Moved, s.base(l), d.rules.MaxChangedShare*100, d.plan.Whole)
	}
	if l.Removals == MinLive || l.Moves == MinLive {
		say(MinLive, "%d of the target's NVAs are up, guards.minLive is %d: %d routes are not withdrawn and %d stay on a next hop that works; if an NVA is gone for good, lower guards.minLive",
			d.rules.Live, d.rules.MinLive, leftOut(s.Removed, l.Removals), leftOut(s.Moved, l.Moves))
	}
	if l.Additions != "" {
		after := s.after(l.Removals == "")
		say(RouteLimit, "the table would need %d routes and may hold %d: %d too many; none of the %d new routes is added; announce fewer or larger prefixes, split the target, or raise its limit if Azure allows more",
			after, d.rules.Limit, after-d.rules.Limit, s.Added)
	}
}

func leftOut(n int, code string) int {
	if code == MinLive {
		return n
	}
	return 0
}

// hash is Plan.Hash of a plan that has no edit yet.
func (d *differ) hash(p Plan) string {
	var twins []string
	for _, r := range d.twins {
		twins = append(twins, r.Name)
	}
	return hash(p, twins)
}

// Hash identifies what the plan writes: for each route its name, prefix, and next hops before and after, whatever their order, the table's ETag and the
// reasons. A plan that writes nothing has none.
func (p Plan) Hash() string {
	if p.Empty() {
		return ""
	}
	gone := map[string]bool{}
	for _, c := range p.Removed {
		gone[c.Name] = true
	}
	return hash(p, slices.DeleteFunc(slices.Clone(p.Edit.Delete), func(name string) bool { return gone[name] }))
}

// HashLength is the number of hexadecimal digits of a hash: 64 bits are enough to tell a plan from the few that could take its place.
const HashLength = 16

func hash(p Plan, twins []string) string {
	var lines []string
	for _, part := range []struct {
		sign string
		list []Change
	}{{"+", p.Added}, {"~", p.Changed}, {"-", p.Removed}} {
		for _, c := range part.list {
			lines = append(lines, part.sign+" "+c.Name+" "+c.Prefix.String()+" "+c.From.String()+" "+c.To.String()+"\n")
		}
	}
	for _, name := range twins {
		lines = append(lines, "- "+name+"\n")
	}
	slices.Sort(lines)
	sum := sha256.New()
	for _, line := range lines {
		sum.Write([]byte(line))
	}
	return hex.EncodeToString(sum.Sum(nil))[:HashLength]
}
