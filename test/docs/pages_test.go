package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/bfd"
	"github.com/pointsman/pointsman/shared/budget"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/test/system"
)

// TestLimitsAreThoseOfTheCode: a row of docs/limits.md that names a constant has its figure.
func TestLimitsAreThoseOfTheCode(t *testing.T) {
	constants := map[string]int{
		"config.DefaultLimit": config.DefaultLimit, "config.DefaultMaxPrefixes": config.DefaultMaxPrefixes, "plan.MaxECMP": plan.MaxECMP, "budget.Burst": budget.Burst,
		"budget.PerSecond": budget.PerSecond * 300, "state.MaxFacts": state.MaxFacts, "state.MaxLosses": state.MaxLosses, "event.MaxChunks": event.MaxChunks, "event.MaxPeers": event.MaxPeers,
		"event.MaxRestart": int(event.MaxRestart / time.Hour), "located.MaxSize": located.MaxSize, "outcome.MaxEvents": outcome.MaxEvents, "outcome.MaxRoutes": outcome.MaxRoutes,
		"bfd.MaxSessions": bfd.MaxSessions, "order.MaxWho": order.MaxWho, "order.MaxWhy": order.MaxWhy,
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\|[^|]*\\| ([0-9,]+)[^|]*\\| `(\\w+\\.[A-Z]\\w+)`").FindAllStringSubmatch(read(t, "docs/limits.md"), -1) {
		figure, err := strconv.Atoi(strings.ReplaceAll(m[1], ",", ""))
		want, known := constants[m[2]]
		named[m[2]] = true
		if err != nil || !known || figure != want {
			t.Errorf("docs/limits.md says %s for %s, which is %d", m[1], m[2], want)
		}
	}
	for name := range constants {
		if !named[name] {
			t.Errorf("docs/limits.md has no row for %s", name)
		}
	}
	unit, err := os.ReadFile(filepath.Join(system.Root(), "packaging", "pointsman-agent.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"MemoryMax=256M\n", "CPUQuota=100%\n"} {
		if !strings.Contains(string(unit), want) {
			t.Errorf("the unit has no %s as docs/limits.md says", want)
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	code    = regexp.MustCompile("(?s)```.*?```")
)

// TestLinksLead: every link within the repository leads to a file, and to a heading where it names one.
func TestLinksLead(t *testing.T) {
	seen := 0
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(read(t, page), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			seen++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := filepath.Join(filepath.Dir(page), file)
			if file == "" {
				target = page
			}
			if _, err := os.Stat(filepath.Join(system.Root(), target)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", page, m[1])
				continue
			}
			if anchor != "" && !anchors(read(t, target))[anchor] {
				t.Errorf("%s: %s has no heading #%s", page, target, anchor)
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d links were found", seen)
	}
}

// anchors are the names that GitHub gives to the headings of a page.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out[strings.ReplaceAll(name, " ", "-")] = true
	}
	return out
}
