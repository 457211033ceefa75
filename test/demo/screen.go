package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// screen prints the timeline. Its lines come from several observers a little out of order, so each waits for a moment.
type screen struct {
	mu     sync.Mutex
	file   *os.File
	broken func() // called when nobody reads any more
	colour bool
	zero   time.Time // of the step
	muted  bool
	held   []line
	flush  *time.Timer
}

// line is one thing that happened.
type line struct {
	at                  time.Time
	where, what         string
	text, aside, colour string
}

// holding is how long a line waits for earlier ones.
const holding = 150 * time.Millisecond

// The colours: ANSI SGR parameters.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// newScreen prints to f, in colour if f is a terminal and nobody minds (https://no-color.org). It calls broken when f cannot be written.
func newScreen(f *os.File, broken func()) *screen {
	_, mind := os.LookupEnv("NO_COLOR")
	term, _ := os.LookupEnv("TERM")
	info, err := f.Stat()
	return &screen{
		file:   f,
		broken: broken,
		colour: err == nil && info.Mode()&os.ModeCharDevice != 0 && !mind && term != "" && term != "dumb",
		zero:   time.Now(),
	}
}

// paint colours text; several parameters are joined by semicolons.
func (s *screen) paint(colour, text string) string {
	if !s.colour || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// event prints a line of the timeline, soon.
func (s *screen) event(l line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.muted {
		return
	}
	s.held = append(s.held, l)
	if s.flush == nil {
		s.flush = time.AfterFunc(holding, s.release)
	}
}

func (s *screen) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush = nil
	s.print(time.Now().Add(-holding))
	if len(s.held) > 0 {
		s.flush = time.AfterFunc(holding, s.release)
	}
}

// print prints the held lines up to an instant, in the order of time. The caller holds mu.
func (s *screen) print(until time.Time) {
	slices.SortStableFunc(s.held, func(a, b line) int { return a.at.Compare(b.at) })
	n := 0
	for n < len(s.held) && !s.held[n].at.After(until) {
		l := s.held[n]
		s.write(fmt.Sprintf("  %7.3f  %-6s %s %-30s  %s", l.at.Sub(s.zero).Seconds(), l.where, s.paint(l.colour, fmt.Sprintf("%-9s", l.what)), l.text,
			s.paint(dim, l.aside)))
		n++
	}
	s.held = slices.Delete(s.held, 0, n)
}

func (s *screen) write(text string) {
	if _, err := fmt.Fprintln(s.file, strings.TrimRight(text, " ")); err != nil {
		s.broken()
	}
}

// say prints a line at once, after all that is held.
func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.print(time.Now().Add(time.Hour))
	s.write(fmt.Sprintf(format, args...))
}

// note prints a remark.
func (s *screen) note(format string, args ...any) {
	s.say("  %s", s.paint(yellow, fmt.Sprintf(format, args...)))
}

// title begins a step: its time starts at zero.
func (s *screen) title(format string, args ...any) {
	s.say("")
	s.say("%s", s.paint(bold, fmt.Sprintf(format, args...)))
	s.mu.Lock()
	s.zero = time.Now()
	s.mu.Unlock()
}

// mute drops timeline lines, or lets them through again.
func (s *screen) mute(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muted = on
}

// failed says why there is no demonstration.
func (s *screen) failed(ctx context.Context, err error) {
	s.say("")
	if ctx.Err() != nil && !errors.Is(err, errWrong) {
		s.say("%s", s.paint(yellow, "Stopped before the end. What was started is taken down again."))
		return
	}
	s.say("%s %v", s.paint(bold+";"+red, "FAILED"), err)
}

// table prints rows in columns; the first row is the head. Columns from the second on are right-aligned if right is set.
func (s *screen) table(rows [][]string, right bool) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if right && i > 0 {
				cell = pad + cell
			} else {
				cell += pad
			}
			b.WriteString("  " + cell)
		}
		text := strings.TrimRight(b.String(), " ")
		if n == 0 {
			text = s.paint(dim, text)
		}
		s.say("%s", text)
	}
}

// ms shows a duration as people read it: milliseconds below ten seconds.
func ms(d time.Duration) string {
	if d >= 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}

// bare shows a duration in milliseconds, without the unit.
func bare(d time.Duration) string { return fmt.Sprint(d.Round(time.Millisecond).Milliseconds()) }

// plural returns "1 route", "2 routes".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, found := strings.CutSuffix(noun, "x"); found {
		return fmt.Sprintf("%d %sxes", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// median returns the middle of the sorted values, 0 of none.
func median(values []time.Duration) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Clone(values)
	slices.SortFunc(sorted, cmp.Compare)
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
