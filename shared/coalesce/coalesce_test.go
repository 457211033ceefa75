package coalesce_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/coalesce"
)

func at(seconds float64) time.Time {
	return time.Date(2026, 5, 28, 0, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

func TestFireAt(t *testing.T) {
	policy := coalesce.Policy{Price: 30, Cap: 20 * time.Second}
	for _, tt := range []struct {
		name   string
		before coalesce.Account
		change coalesce.Change
		now    float64
		want   float64
	}{
		{name: "one better path waits 30 s, capped at 20", change: coalesce.Change{Better: 1}, want: 20},
		{name: "two better paths wait 15 s", change: coalesce.Change{Better: 2}, want: 15},
		{name: "one missing route waits 10 s", change: coalesce.Change{Missing: 1}, want: 10},
		{name: "weights add up", change: coalesce.Change{Missing: 1, Better: 2}, want: 6},
		{name: "a dead next hop never waits", change: coalesce.Change{Dead: 1, Better: 1}, want: 0},
		{name: "no change is not worth waiting for", change: coalesce.Change{}, want: 0},
		{
			name: "what was gathered counts", before: coalesce.Account{Since: at(0), At: at(0), Weight: 1},
			change: coalesce.Change{Better: 5}, now: 10, want: 14,
		},
		{
			name: "enough was gathered", before: coalesce.Account{Since: at(0), At: at(0), Weight: 3},
			change: coalesce.Change{Better: 1}, now: 10, want: 10,
		},
		{
			name: "the cap counts from the first change", before: coalesce.Account{Since: at(0), At: at(18), Accrued: 1, Weight: 0.1},
			change: coalesce.Change{Better: 1}, now: 19, want: 20,
		},
		{
			name: "late already", before: coalesce.Account{Since: at(0), At: at(0), Weight: 0.1},
			change: coalesce.Change{Better: 1}, now: 25, want: 25,
		},
	} {
		fire, after := policy.FireAt(tt.before, tt.change, at(tt.now))
		if !fire.Equal(at(tt.want)) {
			t.Errorf("%s: fires at %v, want %v", tt.name, fire.Sub(at(0)), at(tt.want).Sub(at(0)))
		}
		if !after.At.Equal(at(tt.now)) {
			t.Errorf("%s: the account is of %v", tt.name, after.At)
		}
	}
}

func TestWithoutPriceNothingWaits(t *testing.T) {
	if fire, _ := (coalesce.Policy{Cap: time.Minute}).FireAt(coalesce.Account{}, coalesce.Change{Better: 1}, at(3)); !fire.Equal(at(3)) {
		t.Errorf("fires at %v", fire)
	}
}

// TestHistory runs the account through random news: the write is never before now, never after the cap, and at once for a dead
// next hop; what was gathered never shrinks.
func TestHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := coalesce.Policy{Price: rapid.Float64Range(0, 10000).Draw(t, "price"), Cap: time.Duration(rapid.Int64Range(0, int64(10*time.Minute)).Draw(t, "cap"))}
		var account coalesce.Account
		now := at(0)
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			change := coalesce.Change{Dead: rapid.IntRange(0, 1).Draw(t, "dead"), Missing: rapid.IntRange(0, 500).Draw(t, "missing"), Better: rapid.IntRange(0, 500).Draw(t, "better")}
			fire, after := policy.FireAt(account, change, now)
			limit := after.Since.Add(policy.Cap)
			switch {
			case fire.Before(now):
				t.Fatal("fires in the past")
			case fire.After(now) && fire.After(limit):
				t.Fatalf("fires %v after the cap", fire.Sub(limit))
			case change.Dead > 0 && !fire.Equal(now):
				t.Fatal("a dead next hop waits")
			case after.Accrued < account.Accrued:
				t.Fatal("what was gathered shrinks")
			case !account.Since.IsZero() && !after.Since.Equal(account.Since):
				t.Fatal("the wait began anew")
			}
			if again, _ := policy.FireAt(after, change, now); !again.Equal(fire) {
				t.Fatalf("asked twice at one time: %v, then %v", fire, again)
			}
			account, now = after, now.Add(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "gap")))
		}
	})
}

// TestAtMostTwiceAsDear compares with knowing the future: Dooly, Goldman and Scott prove the factor 2 for this rule.
func TestAtMostTwiceAsDear(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		price := float64(rapid.IntRange(1, 50).Draw(t, "price"))
		arrivals := rapid.SliceOfN(rapid.Float64Range(0, 100), 1, 12).Draw(t, "arrivals")
		slices.Sort(arrivals)
		if online, offline := onlineCost(price, arrivals), offlineCost(price, arrivals); online > 2*offline+1e-3 {
			t.Fatalf("costs %.3f, knowing the future %.3f", online, offline)
		}
	})
}

// onlineCost is price per write plus waiting seconds of better paths that arrive at the given times.
func onlineCost(price float64, arrivals []float64) float64 {
	policy := coalesce.Policy{Price: price, Cap: 1000 * time.Hour}
	var account coalesce.Account
	var fire time.Time
	waiting, cost := []float64(nil), 0.0
	write := func() {
		cost += price
		for _, a := range waiting {
			cost += fire.Sub(at(a)).Seconds()
		}
		waiting, account = nil, coalesce.Account{}
	}
	for _, a := range arrivals {
		if len(waiting) > 0 && !at(a).Before(fire) {
			write()
		}
		waiting = append(waiting, a)
		fire, account = policy.FireAt(account, coalesce.Change{Better: len(waiting)}, at(a))
	}
	write()
	return cost
}

// offlineCost is the least: best[n] is the cost of the first n arrivals, the last write at the time of the n-th.
func offlineCost(price float64, arrivals []float64) float64 {
	best := []float64{0}
	for n := range arrivals {
		least, wait := 0.0, 0.0
		for first := n; first >= 0; first-- {
			wait += arrivals[n] - arrivals[first]
			if c := best[first] + price + wait; first == n || c < least {
				least = c
			}
		}
		best = append(best, least)
	}
	return best[len(arrivals)]
}
