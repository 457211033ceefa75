package funchost

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// timeSpan is a .NET TimeSpan in JSON: "[d.]hh:mm:ss[.fffffff]". "-1" stands for infinite, here a negative duration.
type timeSpan time.Duration

// UnmarshalJSON reads a TimeSpan text.
func (s *timeSpan) UnmarshalJSON(text []byte) error {
	d, err := parseTimeSpan(strings.Trim(string(text), `"`))
	*s = timeSpan(d)
	return err
}

// or returns the span, or a default where the file does not say.
func (s *timeSpan) or(d time.Duration) time.Duration {
	if s == nil {
		return d
	}
	return time.Duration(*s)
}

func parseTimeSpan(text string) (time.Duration, error) {
	if text == "-1" {
		return -1, nil
	}
	m := regexp.MustCompile(`^(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7}))?)?$`).FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is not a TimeSpan [d.]hh:mm:ss[.fffffff]", text)
	}
	part := func(i int) int {
		n, _ := strconv.Atoi(m[i]) // digits by the expression; an absent part is 0
		return n
	}
	if part(2) > 23 || part(3) > 59 || part(4) > 59 {
		return 0, fmt.Errorf("%q is not a TimeSpan: hours to 23, minutes and seconds to 59", text)
	}
	ticks, _ := strconv.Atoi((m[5] + "0000000")[:7]) // of 100 ns
	seconds := ((24*part(1)+part(2))*60+part(3))*60 + part(4)
	return time.Duration(seconds)*time.Second + time.Duration(ticks)*100*time.Nanosecond, nil
}
