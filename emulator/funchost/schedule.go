package funchost

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// schedule is a timer's schedule.
type schedule interface {
	// next is the first occurrence after t.
	next(t time.Time) time.Time
	// adjustsForDST is what the handler sees in Schedule.AdjustForDST.
	adjustsForDST() bool
}

// parseSchedule reads a TimeSpan or an NCRONTAB expression of six fields (seconds first) or five. Times are UTC
// (contract F1).
func parseSchedule(text string) (schedule, error) {
	if d, err := parseTimeSpan(text); err == nil && d > 0 {
		return interval(d), nil
	}
	return parseCron(text)
}

// interval is a TimeSpan schedule.
type interval time.Duration

func (i interval) next(t time.Time) time.Time { return t.Add(time.Duration(i)) }
func (interval) adjustsForDST() bool          { return false }

// cron is an NCRONTAB schedule: one set of allowed values per field. Unlike in cron(8), a day must fit both the day of
// the month and the day of the week (github.com/atifaziz/NCrontab).
type cron struct{ second, minute, hour, day, month, weekday uint64 }

func (*cron) adjustsForDST() bool { return true }

// next steps over whole months, days, hours and minutes that do not fit. A schedule that never comes (February 30th)
// ends at the search limit, 100 years on.
func (c *cron) next(t time.Time) time.Time {
	t = t.UTC().Truncate(time.Second).Add(time.Second)
	end := t.AddDate(100, 0, 0)
	for t.Before(end) {
		switch {
		case !has(c.month, int(t.Month())):
			t = time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		case !has(c.day, t.Day()) || !has(c.weekday, int(t.Weekday())):
			t = time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, time.UTC)
		case !has(c.hour, t.Hour()):
			t = t.Truncate(time.Hour).Add(time.Hour)
		case !has(c.minute, t.Minute()):
			t = t.Truncate(time.Minute).Add(time.Minute)
		case !has(c.second, t.Second()):
			t = t.Add(time.Second)
		default:
			return t
		}
	}
	return end
}

func has(set uint64, n int) bool { return set&(1<<n) != 0 }

func parseCron(text string) (*cron, error) {
	parts := strings.Fields(text)
	if len(parts) == 5 {
		parts = append([]string{"0"}, parts...)
	}
	if len(parts) != 6 {
		return nil, fmt.Errorf("the schedule expression '%s' was not recognized as a valid cron expression or timespan string", text)
	}
	c := &cron{}
	months := "jan feb mar apr may jun jul aug sep oct nov dec"
	days := "sun mon tue wed thu fri sat"
	for i, f := range []struct {
		set       *uint64
		low, high int
		names     string
	}{
		{&c.second, 0, 59, ""},
		{&c.minute, 0, 59, ""},
		{&c.hour, 0, 23, ""},
		{&c.day, 1, 31, ""},
		{&c.month, 1, 12, months},
		{&c.weekday, 0, 6, days},
	} {
		set, err := parseCronField(parts[i], f.low, f.high, strings.Fields(f.names))
		if err != nil {
			return nil, fmt.Errorf("the schedule expression '%s': %w", text, err)
		}
		*f.set = set
	}
	return c, nil
}

// parseCronField reads a list of "*", values and ranges, each with an optional /step.
func parseCronField(text string, low, high int, names []string) (uint64, error) {
	var set uint64
	for item := range strings.SplitSeq(text, ",") {
		span, stepText, stepped := strings.Cut(item, "/")
		step := 1
		if stepped {
			var err error
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 {
				return 0, fmt.Errorf("'%s' is not a step", stepText)
			}
		}
		from, to, err := parseCronSpan(span, low, high, stepped, names)
		if err != nil {
			return 0, err
		}
		for n := from; n <= to; n += step {
			set |= 1 << n
		}
	}
	return set, nil
}

func parseCronSpan(text string, low, high int, stepped bool, names []string) (from, to int, err error) {
	if text == "*" {
		return low, high, nil
	}
	first, last, isRange := strings.Cut(text, "-")
	if from, err = parseCronValue(first, low, high, names); err != nil {
		return 0, 0, err
	}
	switch {
	case isRange:
		to, err = parseCronValue(last, low, high, names)
	case stepped:
		to = high
	default:
		to = from
	}
	if err == nil && to < from {
		err = fmt.Errorf("'%s' is not a range", text)
	}
	return from, to, err
}

func parseCronValue(text string, low, high int, names []string) (int, error) {
	for i, name := range names {
		if len(text) >= 3 && strings.HasPrefix(strings.ToLower(text), name) {
			return low + i, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("'%s' is not a value between %d and %d", text, low, high)
	}
	return n, nil
}
