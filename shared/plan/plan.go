package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pointsman/pointsman/shared/route"
)

// Want is a route that the target should have.
type Want struct {
	Prefix   netip.Prefix
	NextHops route.NextHops // one: a route of type VirtualAppliance; several: VirtualApplianceECMP
}

// Rules bound what a plan may do.
type Rules struct {
	NamePrefix string            // managed routes are named with it
	Owned      func(string) bool // whether the target's document says that we wrote the route of that name
	Limit      int               // routes the table may hold, unmanaged ones included
	// Removing more than MaxRemovedShare (0 to 1) of the managed routes, new ones included, and at least MinRemoved, is refused.
	MaxRemovedShare float64
	MinRemoved      int
	// Moving more than MaxChangedShare (0 to 1; 0 and 1: no guard) of the managed routes, new ones included, away from next hops that work is refused.
	MaxChangedShare float64
	// While fewer than MinLive of the target's NVAs are up, of which there are Live, removals and moves away from next hops that work are refused.
	MinLive, Live int
	Dead          func(Change) bool // whether a move leaves a next hop that does not work; nil: none does
	Released      func(Change) bool // whether a removal needs no guard, because the prefix is known to be carried without the table; nil: none is
	Override      string            // the hash of the plan that passes the guards of shares; "": none
}

// Change is what happens to one prefix. From is empty for an addition, To for a removal.
type Change struct {
	Prefix   netip.Prefix
	Name     string
	From, To route.NextHops
}

// Refusal says that a part of the plan was left out, and what to do about it.
type Refusal struct {
	Code string // RouteLimit, RemovalGuard, ChangeGuard or MinLive
	Text string
}

// The codes of refusals.
const (
	RouteLimit   = "RouteLimit"
	RemovalGuard = "RemovalGuard"
	ChangeGuard  = "ChangeGuard"
	MinLive      = "MinLive"
)

// Plan is what to write and why.
type Plan struct {
	Edit    Edit
	Added   []Change
	Changed []Change
	Removed []Change
	Blocked []Blocked // wanted prefixes that an unmanaged route holds: that route stays
	Refused []Refusal
	Routes  int // in the table afterwards, unmanaged ones included
	// Whole is the hash of the plan as it would be without the guards of shares, if one of them has left something out: what an override names.
	Whole string
}

// Blocked is a wanted prefix that the table already has as an unmanaged route: Azure allows one route per prefix, and
// what others put there is theirs.
type Blocked struct {
	Prefix netip.Prefix
	Name   string
}

// Managed reports whether a route is Pointsman's: its name says so AND the target's document does.
func (r Rules) Managed(x Route) bool {
	return len(x.Name) >= len(r.NamePrefix) && strings.EqualFold(x.Name[:len(r.NamePrefix)], r.NamePrefix) && r.Owned(x.Name)
}

// Installed returns the next hops of the table's managed routes.
func (r Rules) Installed(t Table) map[netip.Prefix]route.NextHops {
	out := map[netip.Prefix]route.NextHops{}
	for _, x := range t.Routes {
		if r.Managed(x) && x.Prefix.IsValid() {
			out[x.Prefix] = x.NextHops
		}
	}
	return out
}

// Diff plans the way from the table as read to the wanted routes.
//
// Moves away from a next hop that does not work are always planned. Additions are planned all or not at all: a table that cannot hold them keeps what it has,
// and the shortfall is named. Removals and other moves beyond their guards are left out in the same way.
func Diff(t Table, want []Want, rules Rules) Plan {
	d := differ{rules: rules, managed: map[netip.Prefix]Route{}, unmanaged: map[netip.Prefix]string{}, names: map[string]bool{}}
	for _, r := range t.Routes {
		d.read(r)
	}
	wanted := map[netip.Prefix]bool{}
	for _, w := range want {
		wanted[w.Prefix] = true
		d.want(w)
	}
	for p, r := range d.managed {
		if !wanted[p] {
			d.plan.Removed = append(d.plan.Removed, Change{Prefix: p, Name: r.Name, From: r.NextHops})
		}
	}
	slices.SortFunc(d.plan.Removed, byPrefix)
	d.guard(len(t.Routes))
	d.edit()
	d.plan.Routes = len(t.Routes) + len(d.plan.Added) - len(d.plan.Removed) - len(d.twins)
	return d.plan
}

type differ struct {
	rules     Rules
	managed   map[netip.Prefix]Route
	unmanaged map[netip.Prefix]string
	names     map[string]bool // in use, lower case
	twins     []Route         // managed routes that must go whatever is wanted
	plan      Plan
}

// read sorts a route of the table into managed and unmanaged.
func (d *differ) read(r Route) {
	d.names[strings.ToLower(r.Name)] = true
	switch _, twin := d.managed[r.Prefix]; {
	case !d.rules.Managed(r):
		if r.Prefix.IsValid() {
			d.unmanaged[r.Prefix] = r.Name
		}
	case twin || !r.Prefix.IsValid():
		d.twins = append(d.twins, r) // Azure refuses two routes of one prefix; a managed one that is no prefix was renamed under us
	default:
		d.managed[r.Prefix] = r
	}
}

func (d *differ) want(w Want) {
	have, managed := d.managed[w.Prefix]
	if name, taken := d.unmanaged[w.Prefix]; taken {
		d.plan.Blocked = append(d.plan.Blocked, Blocked{w.Prefix, name})
		return
	}
	switch {
	case !managed:
		d.plan.Added = append(d.plan.Added, Change{Prefix: w.Prefix, Name: d.freeName(w.Prefix), To: w.NextHops})
	case !have.Leads(w.NextHops):
		d.plan.Changed = append(d.plan.Changed, Change{Prefix: w.Prefix, Name: have.Name, From: have.NextHops, To: w.NextHops})
	}
}

// Leads reports whether the route sends its prefix to exactly these next hops. A route of another type does not, whatever addresses it has.
func (r Route) Leads(hops route.NextHops) bool { return r.NextHops == hops && r.Type == TypeFor(hops) }

// freeName returns the route's name, made from the prefix alone so that a next hop changes in place; where an unmanaged
// route has that very name, a number is added.
func (d *differ) freeName(p netip.Prefix) string {
	base := Name(d.rules.NamePrefix, p)
	name := base
	for i := 2; d.names[strings.ToLower(name)]; i++ {
		name = base + "-" + strconv.Itoa(i)
	}
	d.names[strings.ToLower(name)] = true
	return name
}

// Name returns the name of the managed route for p: "pointsman-10-1-0-0-16", "pointsman-fd00-1-0-0-0-0-0-0-48".
func Name(namePrefix string, p netip.Prefix) string {
	var b strings.Builder
	b.WriteString(namePrefix)
	if a := p.Addr(); a.Is4() {
		for _, octet := range a.As4() {
			b.WriteString(strconv.Itoa(int(octet)) + "-")
		}
	} else {
		raw := a.As16()
		for i := 0; i < 16; i += 2 {
			b.WriteString(strconv.FormatUint(uint64(raw[i])<<8|uint64(raw[i+1]), 16) + "-")
		}
	}
	b.WriteString(strconv.Itoa(p.Bits()))
	return b.String()
}

// edit turns the changes into what the adapter writes.
func (d *differ) edit() {
	for _, list := range [][]Change{d.plan.Added, d.plan.Changed} {
		for _, c := range list {
			d.plan.Edit.Put = append(d.plan.Edit.Put, Route{Name: c.Name, Address: c.Prefix.String(), Prefix: c.Prefix, Type: TypeFor(c.To), NextHops: c.To})
		}
	}
	slices.SortFunc(d.plan.Edit.Put, func(a, b Route) int { return route.Compare(a.Prefix, b.Prefix) })
	for _, c := range d.plan.Removed {
		d.plan.Edit.Delete = append(d.plan.Edit.Delete, c.Name)
	}
	for _, r := range d.twins {
		d.plan.Edit.Delete = append(d.plan.Edit.Delete, r.Name)
	}
	slices.Sort(d.plan.Edit.Delete)
}

func byPrefix(a, b Change) int {
	return cmp.Or(route.Compare(a.Prefix, b.Prefix), cmp.Compare(a.Name, b.Name))
}

// Names returns the names of the routes that the plan creates or replaces.
func (p Plan) Names() []string {
	names := make([]string, len(p.Edit.Put))
	for i, r := range p.Edit.Put {
		names[i] = r.Name
	}
	return names
}

// Empty reports whether there is nothing to write.
func (p Plan) Empty() bool { return p.Edit.Empty() }
