package lab_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/config"
	"github.com/pointsman/pointsman/test/docs"
	"github.com/pointsman/pointsman/test/netns"
)

// recipe returns the block of a page that begins with these words.
func recipe(t *testing.T, page string, words ...string) string {
	t.Helper()
	for _, b := range recipes(t, page) {
		if slices.Equal(b.Info, words) {
			return b.Text
		}
	}
	t.Fatalf("%s has no block %v", page, words)
	return ""
}

func recipes(t *testing.T, page string) []docs.Block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs/recipes", page))
	must(t, err)
	blocks, err := docs.Blocks(page, string(text))
	must(t, err)
	return blocks
}

// TestRecipesOfTheAgentAreValid: the agent reads its files as the pages show them.
func TestRecipesOfTheAgentAreValid(t *testing.T) {
	pages, err := filepath.Glob("../../docs/recipes/*.md")
	must(t, err)
	seen := 0
	for _, page := range pages {
		for _, b := range recipes(t, filepath.Base(page)) {
			if b.Is("yaml") {
				seen++
				if _, problems := config.Parse(b.Page, []byte(b.Text)); len(problems) > 0 {
					t.Errorf("%s: %s", b, problems.Error())
				}
			}
		}
	}
	if seen < 6 {
		t.Errorf("only %d files were found", seen)
	}
}

// beside is the address of what stands beside the NVA in the recipes: a branch, or the machine of the agent.
const beside = "10.0.2.9"

// pair makes the NVA's namespace, with the agent's address by a route, and one beside it.
func pair(t *testing.T) (nva, other *site) {
	t.Helper()
	nva = &site{t: t, ns: netns.New(t), dir: t.TempDir()}
	other = &site{t: t, ns: netns.New(t), dir: t.TempDir()}
	must(t, netns.Pair(nva.ns, other.ns, "eth0", "eth0"))
	must(t, nva.ns.Batch("addr add "+nvaAddress+"/24 dev eth0", "link set eth0 up", "link set lo up", "route add local "+agentAddress+"/32 dev lo"))
	must(t, other.ns.Batch("addr add "+beside+"/24 dev eth0", "link set eth0 up", "link set lo up"))
	return nva, other
}

// withFRR checks a configuration as FRR does, and runs it.
func withFRR(s *site, text string) {
	s.t.Helper()
	f := newFRR(s)
	f.configure(text)
	if out, err := s.ns.Run("vtysh", "-C", "-f", "/etc/frr/"+f.name+"/frr.conf"); err != nil || strings.Contains(out, "%") {
		s.t.Fatalf("vtysh -C: %v: %s", err, out)
	}
	for _, daemon := range []string{"zebra", "staticd", "bgpd"} {
		f.daemon(daemon)
	}
	f.load()
}

// withBIRD checks a configuration as BIRD does, and runs it.
func withBIRD(s *site, text string) {
	s.t.Helper()
	must(s.t, os.WriteFile(s.path("bird.conf"), []byte(text), 0o600))
	if out, err := s.ns.Run("bird", "-p", "-c", s.path("bird.conf")); err != nil {
		s.t.Fatalf("bird -p: %v: %s", err, out)
	}
	s.start("bird", exec.CommandContext(s.t.Context(), "bird", "-f", "-c", s.path("bird.conf"), "-s", s.path("bird.ctl"), "-P", s.path("bird.pid")))
}

// branch announces a prefix to FRR's kernel recipe.
const branch = `
router id 10.0.2.9;
protocol device {}
protocol static { ipv4; route 10.64.1.0/24 blackhole; }
protocol bgp { local 10.0.2.9 as 65020; neighbor 10.0.2.4 as 65010; connect retry time 1; ipv4 { import none; export all; next hop self; }; }
`

// says waits until the agent, with the page's file as it is, would announce these prefixes and no others. --once sends nothing, so the bus that the file names is not missed.
func (s *site) says(text string, prefixes ...string) {
	s.t.Helper()
	path, err := binary()
	must(s.t, err)
	must(s.t, os.WriteFile(s.path("agent.yaml"), []byte(text), 0o600))
	want := `"prefixes":["` + strings.Join(prefixes, `","`) + `"]`
	var said string
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the agent said last:\n%s", said)
		}
	}()
	s.until("the agent announces "+want, func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), 15*time.Second) // it waits for its peers
		defer cancel()
		p := s.start("agent", exec.CommandContext(ctx, path, "--config", s.path("agent.yaml"), "--once", "--print"))
		_ = p.cmd.Wait() // killed where no peer has spoken yet
		said = p.said.String()
		return strings.Contains(said, want)
	})
}

// TestRecipes runs the daemons with the configurations of docs/recipes, and the agent beside them with its own.
func TestRecipes(t *testing.T) {
	t.Parallel()
	need(t, "/usr/lib/frr/bgpd", "vtysh", "bird")
	for name, run := range map[string]func(nva, other *site){
		"FRR, the kernel's routes": func(nva, other *site) {
			withBIRD(other, branch)
			withFRR(nva, recipe(nva.t, "frr.md", "frr", "kernel"))
			nva.says(recipe(nva.t, "frr.md", "yaml", "agent", "kernel"), "10.64.1.0/24")
		},
		"FRR, by BGP": func(nva, _ *site) {
			withFRR(nva, recipe(nva.t, "frr.md", "frr", "bgp"))
			nva.says(recipe(nva.t, "frr.md", "yaml", "agent", "bgp"), "10.64.1.0/24")
		},
		"BIRD, the kernel's routes": func(nva, _ *site) {
			withBIRD(nva, recipe(nva.t, "bird.md", "bird", "kernel"))
			nva.says(recipe(nva.t, "bird.md", "yaml", "agent", "kernel"), "10.64.1.0/24")
		},
		"BIRD, by BGP": func(nva, _ *site) {
			withBIRD(nva, recipe(nva.t, "bird.md", "bird", "bgp"))
			nva.says(recipe(nva.t, "bird.md", "yaml", "agent", "bgp"), "10.64.1.0/24")
		},
		"an appliance, from a machine beside it": func(nva, other *site) {
			withFRR(nva, recipe(nva.t, "vendor-bgp.md", "frr", "vendor"))
			other.says(recipe(nva.t, "vendor-bgp.md", "yaml", "agent", "bgp"), "10.64.1.0/24")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(pair(t))
		})
	}
}
