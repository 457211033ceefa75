package budget_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/budget"
)

func at(seconds float64) time.Time {
	return time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

// TestShare: the share follows what the service said and its last refusal, whichever leaves less, and grows with time.
func TestShare(t *testing.T) {
	for _, tt := range []struct {
		name    string
		left    int // said at 0; negative: nothing was said
		refused float64
		now     float64
		want    float64
	}{
		{"nothing is known", -1, 0, 0, 1},
		{"full", 200, 0, 0, 1},
		{"half", 100, 0, 0, 0.5},
		{"empty", 0, 0, 0, 0},
		{"half a minute later", 0, 0, 30, 0.5},
		{"never above the brim", 100, 0, 3600, 1},
		{"a larger bucket", 399, 0, 0, 1},
		{"refused, although the header says plenty", 190, 10, 5, 0},
		{"the moment that the refusal named", 190, 10, 10, 0},
		{"a minute after it", 190, 10, 70, 1},
		{"half a minute after it", 190, 10, 40, 0.5},
		{"refused, nothing was said", -1, 10, 22, 0.2},
	} {
		b := budget.New("s")
		if tt.left >= 0 {
			b.Said(tt.left, at(0))
		}
		if tt.refused > 0 {
			b.Refuse(at(tt.refused))
		}
		if got := b.Share(at(tt.now)); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: %g, want %g", tt.name, got, tt.want)
		}
	}
}

// TestPrice: 1 above the reserve, 100 when nothing is left, evenly steep in between.
func TestPrice(t *testing.T) {
	for left, want := range map[int]float64{200: 1, 41: 1, 40: 1, 30: 3.1622776601683795, 20: 10, 10: 31.622776601683793, 0: 100} {
		b := budget.New("s")
		b.Said(left, at(0))
		if got := b.Price(at(0)); math.Abs(got-want) > 1e-6 {
			t.Errorf("%d left: %g, want %g", left, got, want)
		}
	}
}

// TestDefer is the table of the package comment.
func TestDefer(t *testing.T) {
	turn := budget.Turn{Name: "spokes", Since: at(90), Others: 400, Part: 1}
	after := turn.After().Seconds()
	if after <= 0 || after >= 120 {
		t.Fatalf("the turn is after %g s, want it within the 120 s that 400 writes take", after)
	}
	for _, tt := range []struct {
		name   string
		left   int
		fireAt float64
		want   float64
	}{
		{"full", 200, 100, 100},
		{"half", 100, 100, 100},
		{"half, and not worth a write yet", 100, 107, 107},
		{"below half", 99, 100, max(100, 90+after)},
		{"below half, and not worth a write for long", 99, 300, 300},
		{"the reserve is there", 40, 100, max(100, 90+after)},
		{"ten short of the reserve", 30, 100, 103 + after},
		{"empty", 0, 100, 112 + after},
		{"empty, and not worth a write for long", 0, 300, 300},
	} {
		b := budget.New("s")
		b.Said(tt.left, at(100))
		if got := b.Defer(at(tt.fireAt), turn, at(100)).Sub(at(0)).Seconds(); math.Abs(got-tt.want) > 1e-6 {
			t.Errorf("%s: at %g s, want %g", tt.name, got, tt.want)
		}
	}
	refused := budget.New("s")
	refused.Refuse(at(110))
	if got, want := refused.Defer(at(100), turn, at(100)).Sub(at(0)).Seconds(), 122+after; math.Abs(got-want) > 1e-6 {
		t.Errorf("refused until 110 s: at %g s, want %g", got, want)
	}
}

// TestTurnsAreSpread: the turns of equal changes fill the time evenly, and a larger part of a table comes earlier.
func TestTurnsAreSpread(t *testing.T) {
	const others = 400
	var turns []time.Duration
	for i := range others {
		turns = append(turns, budget.Turn{Name: fmt.Sprintf("spokes-%d", i), Others: others, Part: 1}.After())
	}
	slices.Sort(turns)
	perSecond := map[int]int{}
	for i, d := range turns {
		if even := float64(i) / others * 120; math.Abs(d.Seconds()-even) > 12 {
			t.Errorf("turn %d is after %v, evenly it would be %g s", i, d, even)
		}
		perSecond[int(d.Seconds())]++
	}
	for s, n := range perSecond {
		if n > 12 {
			t.Errorf("%d turns in second %d", n, s)
		}
	}
	part := func(p float64) time.Duration { return budget.Turn{Name: "spokes", Others: others, Part: p}.After() }
	if !(part(3) < part(1) && part(1) < part(0.9)) || part(0.001) != 120*time.Second || part(0) != part(0.001) {
		t.Errorf("turns by part: %v %v %v %v", part(3), part(1), part(0.5), part(0.001))
	}
}

// TestNotesWorthTelling: while the bucket is not short nobody is told; a bucket that drains is told in steps; one that was said to be short and is not any more is told once.
func TestNotesWorthTelling(t *testing.T) {
	b := budget.New("s")
	told := 0
	for left := 199; left >= 0; left-- {
		if b.Said(left, at(float64(200-left)/1000)) {
			told++
			if left >= 100 {
				t.Errorf("%d left is told", left)
			}
		}
	}
	// In memory every figure is noted, so the steps show only where a document is compared with the newest figure, as the function does.
	if told != 0 {
		t.Errorf("a figure that differs by one is told %d times", told)
	}
	fresh := func() *budget.Budget { return budget.New("s") }
	for _, tt := range []struct {
		name string
		doc  *budget.Budget
		left int
		want bool
	}{
		{"not short", fresh(), 120, false},
		{"short, and nobody knows", fresh(), 99, true},
		{"as expected", said(50), 52, false},
		{"less than expected", said(50), 40, true},
		{"plenty, where it was short", said(50), 190, true},
		{"plenty, where it was plenty", said(150), 190, false},
	} {
		if got := tt.doc.Said(tt.left, at(1)); got != tt.want {
			t.Errorf("%s: told %t, want %t", tt.name, got, tt.want)
		}
	}
	old := said(50)
	if old.Said(10, at(-1)) || old.Left != 50 {
		t.Error("an older figure is taken")
	}
	if r := fresh(); !r.Refuse(at(5)) || r.Refuse(at(5.9)) || r.Refuse(at(4)) || !r.Refuse(at(6)) {
		t.Errorf("refusals: %+v", r)
	}
}

func said(left int) *budget.Budget {
	b := budget.New("s")
	b.Said(left, at(0))
	return b
}

// TestLaws: more left never means a later write or a higher price; nobody waits for ever: at the moment that was named the change may be written unless somebody drew meanwhile.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		more, less := budget.New("s"), budget.New("s")
		left := rapid.IntRange(0, 400).Draw(rt, "left")
		less.Said(rapid.IntRange(0, left).Draw(rt, "less"), at(0))
		more.Said(left, at(0))
		less.Capacity = more.Capacity
		if until := rapid.IntRange(-30, 30).Draw(rt, "until"); until > 0 {
			more.Refuse(at(float64(until)))
			less.Refuse(at(float64(until)))
		}
		now := at(rapid.Float64Range(0, 60).Draw(rt, "now"))
		turn := budget.Turn{Name: rapid.String().Draw(rt, "name"), Since: now, Others: rapid.IntRange(1, 600).Draw(rt, "others"), Part: rapid.Float64Range(0, 3).Draw(rt, "part")}
		if more.Price(now) > less.Price(now) || more.Price(now) < 1 || less.Price(now) > 100 {
			rt.Fatalf("prices %g with more, %g with less", more.Price(now), less.Price(now))
		}
		a, b := more.Defer(now, turn, now), less.Defer(now, turn, now)
		if a.After(b) {
			rt.Fatalf("with more at %v, with less at %v", a.Sub(now), b.Sub(now))
		}
		if again := less.Defer(b, turn, b); again.After(b) {
			rt.Fatalf("at its turn it is put off by %v", again.Sub(b))
		}
		if less.Share(b) < budget.Reserve-1e-6 && b.After(now) {
			rt.Fatalf("its turn comes with %g left", less.Share(b))
		}
	})
}

func TestCodec(t *testing.T) {
	b := said(17)
	b.Refuse(at(9))
	body, err := budget.Encode(b)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schema":1,"subscription":"s","capacity":200,"left":17,"at":"2026-11-29T00:00:00Z","until":"2026-11-29T00:00:09Z"}`
	if string(body) != want {
		t.Errorf("%s\nwant %s", body, want)
	}
	got, err := budget.Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "{}", `{"schema":2,"capacity":200}`, `{"schema":1,"capacity":0}`, `{"schema":1,"capacity":200,"left":-1}`} {
		if _, err = budget.Decode([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
