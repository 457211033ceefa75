package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
)

// Subnets reads the address prefixes of a subnet by its ARM resource id. fault.NotFound: there is none.
type Subnets interface {
	Subnet(ctx context.Context, id string) ([]netip.Prefix, error)
}

// subnetAge is how old what is known of a subnet may be before a sweep reads it again. The range of a subnet that is in use hardly ever changes, and never
// while something lives in the part that changes.
const subnetAge = time.Hour

// codeUnknownSubnet marks a table of which it is not known whether it is in force in an NVA's own subnet.
const codeUnknownSubnet = "OwnSubnetUnknown"

// ownSubnet refuses a table that is in force in the subnet of an NVA. Who waits for a write waits only for the reading of a subnet that was never read;
// the sweep keeps the rest fresh, and looks even where there is nothing to write.
func (x *run) ownSubnet(ctx context.Context, v view) error {
	if x.Subnets == nil || v.domain.Config.GuardsOf(v.target).OwnSubnet == config.OwnSubnetOff {
		return nil
	}
	if len(v.target.Subnets) > 0 {
		x.subnets = []state.Subnet{}
		return plan.OwnSubnet([]plan.Subnet{{Prefixes: v.target.Subnets}}, v.domain.Config.Inside)
	}
	sweep := strings.HasPrefix(x.wake.Cause, "sweep/")
	if v.plan.Empty() && !sweep {
		return nil
	}
	x.subnets = []state.Subnet{}
	var known []plan.Subnet
	var failed error
	for _, id := range slices.Sorted(slices.Values(v.table.Subnets)) {
		s, err := x.subnet(ctx, id, sweep)
		switch {
		case fault.Is(err, fault.NotFound): // gone since the table was read
		case err != nil:
			failed = errors.Join(failed, err)
		default:
			x.subnets = append(x.subnets, s)
			known = append(known, plan.Subnet{ID: s.ID, Prefixes: s.Prefixes})
		}
	}
	if err := plan.OwnSubnet(known, v.domain.Config.Inside); err != nil {
		return fmt.Errorf("target %s: %w", v.target.Name, err)
	}
	return failed
}

// subnet returns what is known of a subnet, and reads it where that is nothing, or too old for a sweep.
func (x *run) subnet(ctx context.Context, id string, sweep bool) (state.Subnet, error) {
	i := slices.IndexFunc(x.doc.Subnets, func(s state.Subnet) bool { return strings.EqualFold(s.ID, id) })
	if i >= 0 && (!sweep || x.Now().Sub(x.doc.Subnets[i].At) < subnetAge) {
		return x.doc.Subnets[i], nil
	}
	prefixes, err := x.Subnets.Subnet(ctx, id)
	switch {
	case err == nil:
		return state.Subnet{ID: id, Prefixes: prefixes, At: x.Now()}, nil
	case i >= 0 && !fault.Is(err, fault.NotFound):
		x.log.WarnContext(ctx, "a subnet cannot be read; what was known of it holds", slog.String("subnet", id), slog.Any("error", err))
		return x.doc.Subnets[i], nil
	case fault.Is(err, fault.Denied):
		return state.Subnet{}, (&fault.Error{
			Kind: fault.Denied, Code: codeUnknownSubnet, Err: fmt.Errorf("whether the table is that of an NVA's own subnet is not known, so nothing is written: %w", err),
		}).WithAdvice("or declare targets[].subnets in the domain file, or set guards.ownSubnet: off")
	}
	return state.Subnet{}, fmt.Errorf("subnets of the table: %w", err)
}
