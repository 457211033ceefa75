package stage_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/stage"
)

var start = time.Date(2026, 5, 28, 12, 0, 0, 0, time.UTC)

// after returns the instant so many tenths of a second after the start; none for a negative number.
func after(tenths int) time.Time {
	if tenths < 0 {
		return time.Time{}
	}
	return start.Add(time.Duration(tenths) * 100 * time.Millisecond)
}

func times(at [10]int) stage.Times {
	return stage.Times{
		Sent:  stage.Sent{Observed: after(at[0]), Said: after(at[1]), Queued: after(at[2]), Taken: after(at[3]), Merged: after(at[4]), Woken: after(at[5])},
		Begun: after(at[6]), Read: after(at[7]), Decided: after(at[8]), Written: after(at[9]),
	}
}

func TestTook(t *testing.T) {
	for name, c := range map[string]struct {
		at    [10]int
		want  string
		total time.Duration
	}{
		"all of it":              {[10]int{0, 1, 3, 6, 10, 15, 21, 28, 36, 45}, `{"gather":0.1,"publish":0.2,"receive":0.3,"merge":0.4,"wake":0.5,"wait":0.6,"read":0.7,"decide":0.8,"write":0.9}`, 4500 * time.Millisecond},
		"a sweep":                {[10]int{-1, -1, -1, -1, -1, 0, 2, 5, 6, 16}, `{"wait":0.2,"read":0.3,"decide":0.1,"write":1}`, 0},
		"nothing written":        {[10]int{0, 1, 3, 6, 10, 15, 21, 28, -1, -1}, `{"gather":0.1,"publish":0.2,"receive":0.3,"merge":0.4,"wake":0.5,"wait":0.6,"read":0.7}`, 0},
		"a clock that is behind": {[10]int{20, 21, 3, 6, 10, 15, 21, 28, 36, 45}, `{"gather":0.1,"publish":0,"receive":0.3,"merge":0.4,"wake":0.5,"wait":0.6,"read":0.7,"decide":0.8,"write":0.9}`, 2500 * time.Millisecond},
		"an older agent":         {[10]int{0, -1, 3, 6, 10, 15, 21, 28, 36, 45}, `{"publish":0.3,"receive":0.3,"merge":0.4,"wake":0.5,"wait":0.6,"read":0.7,"decide":0.8,"write":0.9}`, 4500 * time.Millisecond},
		"nothing known":          {[10]int{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, `{}`, 0},
	} {
		got, err := json.Marshal(times(c.at).Took())
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %s (%v), want %s", name, got, err, c.want)
		}
		if total, ok := times(c.at).Total(); total != c.total || ok != (c.total > 0) {
			t.Errorf("%s: got a total of %s, %t, want %s", name, total, ok, c.total)
		}
	}
}

// Where the clocks agree, the stages are all of the time and nothing else.
func TestStagesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var at [10]int
		for i := 1; i < len(at); i++ {
			at[i] = at[i-1] + rapid.IntRange(0, 1000).Draw(t, "step")
		}
		for i := 1; i < len(at)-1; i++ {
			if rapid.Bool().Draw(t, "not known") {
				at[i] = -1
			}
		}
		var sum time.Duration
		took := times(at).Took()
		for _, s := range took {
			sum += s.Duration
		}
		if total, ok := times(at).Total(); !ok || total != sum {
			t.Fatalf("the stages take %s, the whole %s", sum, total)
		}
		text, err := json.Marshal(took)
		if err != nil {
			t.Fatal(err)
		}
		var back stage.Durations
		if err = json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(took, back); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestUnmarshal(t *testing.T) {
	var d stage.Durations
	if err := json.Unmarshal([]byte(`{"write":2,"teleport":9,"gather":0.5}`), &d); err != nil || len(d) != 2 || d[0].Stage != stage.Gather || d[1].Duration != 2*time.Second {
		t.Errorf("got %v (%v)", d, err)
	}
	if err := json.Unmarshal([]byte(`{"write":"long"}`), &d); err == nil {
		t.Error("no error for a word")
	}
}
