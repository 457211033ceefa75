package replay_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pointsman/pointsman/replay"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
)

// stormDomain is a domain of one preferred NVA and its backup, with the policy.
func stormDomain(t *testing.T, policy string) *config.Domain {
	t.Helper()
	d, problems := config.Parse("hub.yaml", []byte(`
domain: hub
policy: {silence: down, `+policy+`}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], preference: 200, allow: ["10.64.0.0/10 le 32"]}
  - {name: nva-b, nextHops: [10.0.0.5], allow: ["10.64.0.0/10 le 32"]}
targets:
  - {name: spokes, routeTable: `+tableID+`}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return d
}

// storm is a journal of seed in which each of 300 prefixes of the preferred NVA goes down and comes up in turn for two minutes, staying in each state for U(2,8) s, and is up at
// the end. The agent gathers for 100 ms. calm is when the storm begins: by then hold-downs of the start have ended.
func storm(seed uint64) (entries []journal.Entry, calm time.Duration) {
	const lasts, gather = 2 * time.Minute, 100 * time.Millisecond
	calm = time.Minute
	all := prefixes(300)
	a, b := &speaker{name: "nva-a", beat: 1}, &speaker{name: "nva-b", beat: 1}
	entries = []journal.Entry{a.said(0, event.Snapshot, all), b.said(0, event.Snapshot, all)}
	rng := rand.New(rand.NewPCG(seed, 0))
	flips := make([][]int, lasts/gather+1) // by time of the event: prefixes that flip
	for i := range all {
		up := true
		for at := time.Duration(0); ; {
			at += 2*time.Second + time.Duration(rng.Int64N(int64(6*time.Second)))
			if at > lasts {
				if !up {
					flips[lasts/gather] = append(flips[lasts/gather], i)
				}
				break
			}
			flips[at/gather] = append(flips[at/gather], i)
			up = !up
		}
	}
	down := map[int]bool{}
	for n, list := range flips {
		var announce, withdraw []netip.Prefix
		for _, i := range list {
			if down[i] = !down[i]; down[i] {
				withdraw = append(withdraw, all[i])
			} else {
				announce = append(announce, all[i])
			}
		}
		if len(list) > 0 {
			entries = append(entries, a.said(calm+time.Duration(n+1)*gather, event.Delta, announce, withdraw...))
		}
	}
	return entries, calm
}

// The flap storm of the study behind the design: without hold-down and damping the table is written all the time, and half of the prefixes are on a dead next hop.
func TestTheFlapStorm(t *testing.T) {
	const writeDuration = 4 * time.Second
	weather := func(policy string, seed uint64) replay.TargetReport {
		entries, calm := storm(seed)
		got := run(t, replay.Config{Domain: stormDomain(t, policy), WriteDuration: writeDuration}, entries...).Targets[0]
		got.Writes = slices.DeleteFunc(got.Writes, func(w replay.Write) bool { return w.At.Before(begin.Add(calm)) })
		return got
	}
	for seed := range uint64(5) {
		bare := weather("holdDown: 0s, damping: {halfLife: 0s}", seed)
		for _, policy := range []string{"holdDown: 30s", "holdDown: 30s, damping: {halfLife: 0s}"} {
			got := weather(policy, seed)
			t.Logf("seed %d, %s: %d writes and %.0f dead prefix-seconds; without: %d and %.0f", seed, policy, len(got.Writes), got.DeadSeconds, len(bare.Writes), bare.DeadSeconds)
			if len(got.Writes) > 6 || got.DeadSeconds*5 >= bare.DeadSeconds {
				t.Errorf("want at most 6 writes and less than a fifth of the dead prefix-seconds")
			}
			home := 0 // prefixes that the writes took away from nva-a and not back
			for _, w := range got.Writes {
				for _, c := range w.Changed {
					if c.To == "10.0.0.4" {
						home--
					} else {
						home++
					}
				}
			}
			if home != 0 {
				t.Errorf("%d prefixes are not back on the NVA that they came from", home)
			}
		}
	}
}
