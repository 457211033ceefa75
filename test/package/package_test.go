// Package package_test installs, upgrades and removes the agent's packages in a root of their own, and looks at the service unit as systemd does.
package package_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/config"
)

// root is that of the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func contents(t *testing.T, elements ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// need ends the test where a program is missing: test/run installs them all where it may.
func need(t *testing.T, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is missing: install the Debian package %s", program, debian)
	}
}

// command runs in the root of the repository with more environment, and returns what it printed.
func command(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = root(t)
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	return string(out), err
}

func must(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := command(t, env, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// pack makes one package of the agent, with a stand-in for the binary, and returns its path. reference replaces the file that becomes the
// configuration; empty: the real one.
func pack(t *testing.T, format, version, reference string) string {
	t.Helper()
	stage, out := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"pointsman-agent": "#!/bin/sh\necho " + version + "\n", "pointsman-agent.8.gz": "page"} {
		if err := os.WriteFile(filepath.Join(stage, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	recipe := filepath.Join("packaging", "agent.yaml")
	if reference != "" {
		own := filepath.Join(stage, "reference.yaml")
		if err := os.WriteFile(own, []byte(reference), 0o600); err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(contents(t, root(t), recipe), "src: agent/config/reference.yaml", "src: "+own)
		recipe = filepath.Join(stage, "agent.yaml")
		if err := os.WriteFile(recipe, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"ARCH=amd64", "STAGE=" + stage, "VERSION=" + version, "SOURCE_DATE_EPOCH=1777863722"}
	must(t, env, "go", "tool", "-modfile=tools/nfpm.mod", "nfpm", "package", "--config", recipe, "--packager", format, "--target", out+"/")
	made, err := filepath.Glob(filepath.Join(out, "*."+format))
	if err != nil || len(made) != 1 {
		t.Fatalf("nfpm made %v (%v)", made, err)
	}
	return made[0]
}

func TestPackagesAreReproducible(t *testing.T) {
	for _, format := range []string{"deb", "rpm"} {
		t.Run(format, func(t *testing.T) {
			first, second := pack(t, format, "1.0.0", ""), pack(t, format, "1.0.0", "")
			if contents(t, first) != contents(t, second) {
				t.Error("two packages of the same parts differ")
			}
		})
	}
}

// system is a root directory with a package database and users of its own.
type system struct {
	t   *testing.T
	dir string
}

func newSystem(t *testing.T) system {
	t.Helper()
	need(t, "dpkg", "dpkg")
	need(t, "systemd-sysusers", "systemd")
	if os.Geteuid() != 0 {
		t.Skip("dpkg unpacks files of root: run this as root")
	}
	s := system{t, t.TempDir()}
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil { // as in a real system
			t.Fatal(err)
		}
	}
	for _, file := range []string{"var/lib/dpkg/status", "var/lib/dpkg/available", "etc/passwd", "etc/group"} {
		s.write(file, "")
	}
	return s
}

func (s system) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// dpkg works on the root without chroot: the scripts get it as DPKG_ROOT. Source: dpkg(1), force-script-chrootless.
func (s system) dpkg(args ...string) {
	s.t.Helper()
	args = append([]string{"--root=" + s.dir, "--force-script-chrootless", "--force-not-root", "--force-confold", "--log=/dev/null"}, args...)
	must(s.t, []string{"DEBIAN_FRONTEND=noninteractive"}, "dpkg", args...)
}

func (s system) exists(name string) bool {
	_, err := os.Lstat(filepath.Join(s.dir, name))
	return err == nil
}

func (s system) wantFiles(want map[string]bool) {
	s.t.Helper()
	for name, there := range want {
		if s.exists(name) != there {
			s.t.Errorf("%s is there: %t, want %t", name, !there, there)
		}
	}
}

const (
	agentFile = "etc/pointsman/agent.yaml"
	binFile   = "usr/bin/pointsman-agent"
	unitFile  = "usr/lib/systemd/system/pointsman-agent.service"
	epochFile = "var/lib/pointsman/epoch"
)

func TestDebInstallUpgradeRemovePurge(t *testing.T) {
	s := newSystem(t)
	s.dpkg("--install", pack(t, "deb", "1.0.0", ""))
	s.wantFiles(map[string]bool{
		agentFile: true, binFile: true, unitFile: true, "usr/lib/sysusers.d/pointsman.conf": true,
		"usr/share/bash-completion/completions/pointsman-agent": true,
		"usr/share/man/man8/pointsman-agent.8.gz":               true, "usr/share/doc/pointsman-agent/copyright": true,
	})
	if contents(t, s.dir, agentFile) != config.Reference() {
		t.Error("the configuration is not the reference")
	}
	for name, want := range map[string]os.FileMode{agentFile: 0o644, binFile: 0o755, unitFile: 0o644} {
		if info, err := os.Stat(filepath.Join(s.dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, want %v (%v)", name, info.Mode(), want, err)
		}
	}
	if !strings.Contains(contents(t, s.dir, "etc/passwd"), "\npointsman:") && !strings.HasPrefix(contents(t, s.dir, "etc/passwd"), "pointsman:") {
		t.Error("there is no user pointsman")
	}

	const edited = "# mine\n"
	s.write(agentFile, edited)
	if err := os.Mkdir(filepath.Join(s.dir, filepath.Dir(epochFile)), 0o700); err != nil {
		t.Fatal(err)
	}
	s.write(epochFile, "1")
	s.dpkg("--install", pack(t, "deb", "1.1.0", "# another reference\n"))
	if got := contents(t, s.dir, agentFile); got != edited {
		t.Errorf("after the upgrade the configuration is %q, want %q", got, edited)
	}
	if !strings.Contains(contents(t, s.dir, binFile), "1.1.0") {
		t.Error("the binary is the old one")
	}
	s.wantFiles(map[string]bool{agentFile + ".dpkg-dist": true, epochFile: true})

	s.dpkg("--remove", "pointsman-agent")
	s.wantFiles(map[string]bool{binFile: false, unitFile: false, agentFile: true, epochFile: true})

	s.dpkg("--purge", "pointsman-agent")
	s.wantFiles(map[string]bool{agentFile: false, agentFile + ".dpkg-dist": false, epochFile: false, "var/lib/pointsman": false})
	if !strings.Contains(contents(t, s.dir, "etc/passwd"), "pointsman:") {
		t.Error("the user is gone: its number may go to somebody else")
	}
}

func TestRPM(t *testing.T) {
	need(t, "rpm", "rpm")
	p := pack(t, "rpm", "1.0.0~rc1", "")
	query := func(args ...string) string {
		return strings.TrimSpace(must(t, nil, "rpm", append([]string{"--query", "--package", p}, args...)...))
	}
	if got := query("--queryformat", "%{NAME} %{VERSION} %{ARCH} %{LICENSE}"); got != "pointsman-agent 1.0.0~rc1 x86_64 Apache-2.0" {
		t.Errorf("the package is %q", got)
	}
	if got := query("--configfiles"); got != "/"+agentFile {
		t.Errorf("configuration files: %q", got)
	}
	modes := query("--queryformat", "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILENAMES} %{FILEFLAGS:fflags}\n]")
	for _, want := range []string{
		"-rwxr-xr-x root /" + binFile, "-rw-r--r-- root /" + unitFile, "-rw-r--r-- root /" + agentFile + " cn", // config, noreplace
	} {
		if !strings.Contains(modes, want) {
			t.Errorf("no %q in\n%s", want, modes)
		}
	}
	scripts := query("--scripts")
	for _, want := range []string{"postinstall", "preuninstall", "postuninstall"} {
		if !strings.Contains(scripts, want+" scriptlet") {
			t.Errorf("no %s script", want)
		}
	}
}

// TestRPMInstallUpgradeErase: in a root of its own, where no script can run (TestScripts… are about those).
func TestRPMInstallUpgradeErase(t *testing.T) {
	need(t, "rpm", "rpm")
	if os.Geteuid() != 0 {
		t.Skip("rpm changes its root directory: run this as root")
	}
	s := system{t, t.TempDir()}
	rpm := func(args ...string) {
		t.Helper()
		must(t, nil, "rpm", append([]string{"--root", s.dir}, args...)...)
	}
	rpm("--initdb")
	install := []string{"--nodeps", "--noscripts", "--ignorearch"}
	rpm(append(install, "--install", pack(t, "rpm", "1.0.0", ""))...)
	if contents(t, s.dir, agentFile) != config.Reference() {
		t.Error("the configuration is not the reference")
	}
	const edited = "# mine\n"
	s.write(agentFile, edited)
	rpm(append(install, "--upgrade", pack(t, "rpm", "1.1.0", "# another reference\n"))...)
	if got := contents(t, s.dir, agentFile); got != edited {
		t.Errorf("after the upgrade the configuration is %q, want %q", got, edited)
	}
	if !strings.Contains(contents(t, s.dir, binFile), "1.1.0") {
		t.Error("the binary is the old one")
	}
	s.wantFiles(map[string]bool{agentFile + ".rpmnew": true, unitFile: true})
	rpm("--erase", "--noscripts", "pointsman-agent")
	s.wantFiles(map[string]bool{binFile: false, unitFile: false, agentFile: false, agentFile + ".rpmsave": true})
}

// TestTwoBuildsAreTheSame makes the packages of the last commit in two places and time zones: not a byte may differ. The second build leaves out the tool's, which are made as the agent's
// are; the other architecture differs in an argument only.
func TestTwoBuildsAreTheSame(t *testing.T) {
	need(t, "git", "git")
	if _, err := command(t, nil, "packaging/version"); err != nil {
		t.Skip("no history here")
	}
	temporary := t.TempDir()
	source := filepath.Join(temporary, "x") // somebody may commit between the two
	must(t, nil, "git", "clone", "--quiet", "--shared", root(t), source)
	build := func(dir, zone string, targets ...string) map[string]string {
		t.Helper()
		must(t, []string{"GOFLAGS=", "TZ=" + zone}, "make", append([]string{"--no-print-directory", "--directory", dir, "ARCHES=" + runtime.GOARCH}, targets...)...)
		made := map[string]string{}
		files, err := os.ReadDir(filepath.Join(dir, "dist", "packages"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			made[f.Name()] = contents(t, dir, "dist", "packages", f.Name())
		}
		return made
	}
	other := filepath.Join(temporary, "a-longer-path", "y")
	must(t, nil, "git", "clone", "--quiet", "--shared", source, other)
	first, second := build(source, "UTC", "package"), build(other, "Asia/Kolkata", "package-app", "package-agent")
	for name, text := range second {
		if first[name] != text {
			t.Errorf("two builds of %s differ", name)
		}
	}
	for _, want := range []string{
		"pointsman-functions.zip", "pointsman-functions.cdx.json", "pointsman-agent_*.deb", "pointsman-agent-*.rpm", "pointsman-agent_linux_*.cdx.json",
		"pointsman_*.deb", "pointsman-[0-9]*.rpm", "pointsman_linux_*.cdx.json",
	} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(first)), func(name string) bool { ok, _ := filepath.Match(want, name); return ok }) {
			t.Errorf("no %s was made: %v", want, slices.Sorted(maps.Keys(first)))
		}
	}
	for name, text := range first {
		if name != "SHA256SUMS" && !strings.Contains(first["SHA256SUMS"], fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(text)), name)) {
			t.Errorf("SHA256SUMS lacks %s", name)
		}
	}
	if len(second) < 6 {
		t.Errorf("the second build made only %v", slices.Sorted(maps.Keys(second)))
	}
}

func TestCompletionOfTheAgent(t *testing.T) {
	need(t, "bash", "bash")
	complete := func(words ...string) []string {
		t.Helper()
		script := `. packaging/pointsman-agent.bash; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _pointsman_agent; printf '%s\n' "${COMPREPLY[@]}"`
		return strings.Fields(must(t, nil, "bash", append([]string{"-c", script, "bash", "pointsman-agent"}, words...)...))
	}
	main, keys := contents(t, root(t), "cmd", "pointsman-agent", "main.go"), contents(t, root(t), "cmd", "pointsman-agent", "keys.go")
	keygen, pubkey, _ := strings.Cut(keys, "func pubkey(")
	for _, tt := range []struct {
		source  string
		command []string
	}{{main, nil}, {keygen, []string{"keygen"}}, {pubkey, []string{"pubkey"}}, {contents(t, root(t), "cmd", "pointsman-agent", "preflight.go"), []string{"preflight"}}} {
		var want []string
		for _, m := range regexp.MustCompile(`f\.\w+\((?:&o\.\w+, )?"([a-z-]+)"`).FindAllStringSubmatch(tt.source, -1) {
			want = append(want, "--"+m[1])
		}
		got := complete(append(tt.command, "--")...)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || len(want) < 2 {
			t.Errorf("%v: it offers %v, the flags are %v", tt.command, got, want)
		}
	}
	if got := complete("k"); !slices.Equal(got, []string{"keygen"}) {
		t.Errorf("k: it offers %v", got)
	}
	if got := complete("--config", "Make"); !slices.Equal(got, []string{"Makefile"}) {
		t.Errorf("a file: it offers %v", got)
	}
}

func TestScripts(t *testing.T) {
	need(t, "shellcheck", "shellcheck")
	scripts := []string{"version", "agent", "tool", "pointsman-agent.bash", "scripts/postinst", "scripts/prerm", "scripts/postrm"}
	for i := range scripts {
		scripts[i] = filepath.Join("packaging", scripts[i])
	}
	must(t, nil, "shellcheck", scripts...)
}

// TestScriptsDoNothingForOtherCalls: dpkg also calls them to undo (abort-upgrade …), and rpm before an upgrade is over.
func TestScriptsDoNothingForOtherCalls(t *testing.T) {
	for _, call := range [][]string{
		{"postinst", "abort-upgrade", "1.0"},
		{"postinst", "abort-remove"},
		{"postinst"},
		{"prerm", "upgrade", "1.1"},
		{"prerm", "failed-upgrade", "1.0"},
		{"prerm", "1"},
		{"postrm", "upgrade", "1.1"},
		{"postrm", "abort-install"},
		{"postrm", "1"},
	} {
		t.Run(strings.Join(call, " "), func(t *testing.T) {
			// Every program that a script may call fails, and says so.
			bin := t.TempDir()
			for _, name := range []string{"systemctl", "systemd-sysusers", "useradd", "rm"} {
				if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\necho called "+name+"\nexit 1\n"), 0o700); err != nil { // a program
					t.Fatal(err)
				}
			}
			out := must(t, []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "DPKG_ROOT="}, "sh", append([]string{"packaging/scripts/" + call[0]}, call[1:]...)...)
			if out != "" {
				t.Errorf("it printed %q", out)
			}
		})
	}
}

// unit is the service unit with a program that exists.
func unit(t *testing.T) string {
	t.Helper()
	text := contents(t, root(t), "packaging", "pointsman-agent.service")
	text = strings.Replace(text, "/usr/bin/pointsman-agent", "/bin/true", 1)
	text = strings.Replace(text, " man:pointsman-agent(8)", "", 1)
	text = strings.Replace(text, "=man:pointsman-agent(8)", "=man:true(1)", 1)
	file := filepath.Join(t.TempDir(), "pointsman-agent.service")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestUnitIsValid(t *testing.T) {
	need(t, "systemd-analyze", "systemd")
	if out := must(t, nil, "systemd-analyze", "verify", "--man=no", unit(t)); strings.Contains(out, "pointsman-agent.service") {
		t.Errorf("systemd says:\n%s", out)
	}
}

// TestUnitIsHardened: the unit is no more exposed than docs/install.md says (10: not protected at all, below 2: "OK"); what is left is the network and CAP_NET_ADMIN.
// The figure is what `make unit-security` prints.
func TestUnitIsHardened(t *testing.T) {
	need(t, "systemd-analyze", "systemd")
	figure := func(pattern, text string) float64 {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no %s in\n%s", pattern, text)
		}
		level, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return level
	}
	out := must(t, nil, "systemd-analyze", "security", "--offline=true", "--no-pager", unit(t))
	measured, said := figure(`exposure level for \S+: ([0-9.]+)`, out), figure("`make unit-security`: ([0-9.]+)", contents(t, root(t), "docs", "install.md"))
	t.Logf("exposure %.1f", measured)
	if measured > said || said >= 2 {
		t.Errorf("exposure %.1f, docs/install.md says %.1f, want below 2:\n%s", measured, said, out)
	}
}

// TestUnitFitsTheAgent: what the unit says and what the agent has as defaults must not drift apart.
func TestUnitFitsTheAgent(t *testing.T) {
	text := contents(t, root(t), "packaging", "pointsman-agent.service")
	setting := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("the unit has no %s", name)
		}
		return m[1]
	}
	if got := filepath.Join("/var/lib", setting("StateDirectory")); got != config.DefaultStateDir {
		t.Errorf("the state directory is %s, the agent's %s", got, config.DefaultStateDir)
	}
	mainFile := contents(t, root(t), "cmd", "pointsman-agent", "main.go")
	_, file, ok := strings.Cut(setting("ExecStart"), "--config ")
	if !ok || !strings.Contains(mainFile, strconv.Quote(file)) {
		t.Errorf("the unit starts with the configuration %q, which is not the agent's default", file)
	}
	seconds, err := strconv.Atoi(setting("TimeoutStopSec"))
	if err != nil || time.Duration(seconds)*time.Second < 2*config.DefaultStopTimeout {
		t.Errorf("TimeoutStopSec=%d is too short for an orderly stop", seconds)
	}
	// 2 is how Go ends after a panic, and after the SIGABRT of systemd's watchdog. Source: the runtime's documentation, GOTRACEBACK.
	if setting("Restart") != "always" || regexp.MustCompile(`(?m)^RestartPreventExitStatus=.*\b2\b`).MatchString(text) {
		t.Error("an agent that crashed would stay down")
	}
}

func TestManPageNamesEveryFlag(t *testing.T) {
	page := strings.ReplaceAll(contents(t, root(t), "packaging", "man", "pointsman-agent.8"), `\-`, "-")
	flags := regexp.MustCompile(`f\.\w+Var\(&o\.\w+, "([^"]+)"`).FindAllStringSubmatch(contents(t, root(t), "cmd", "pointsman-agent", "main.go"), -1)
	if len(flags) < 5 {
		t.Fatalf("only the flags %v found", flags)
	}
	for _, f := range flags {
		if !strings.Contains(page, "--"+f[1]) {
			t.Errorf("the page does not name --%s", f[1])
		}
	}
}

func TestManPageIsClean(t *testing.T) {
	need(t, "man", "man-db")
	out := must(t, []string{"LC_ALL=C.UTF-8", "MANROFFSEQ=", "MANWIDTH=80"}, "man", "--warnings", "--local-file", "packaging/man/pointsman-agent.8")
	if !bytes.Contains([]byte(out), []byte("EXIT STATUS")) || strings.Contains(out, "warning") {
		t.Errorf("man prints\n%s", out)
	}
}

func TestVersionIsOneOfAPackage(t *testing.T) {
	need(t, "git", "git")
	out, err := command(t, nil, "packaging/version")
	if err != nil {
		t.Skipf("no history here: %s", out)
	}
	if !regexp.MustCompile(`^[0-9][0-9A-Za-z.+~]*\n$`).MatchString(out) {
		t.Errorf("version %q", out)
	}
}

// TestInstallPageShowsAValidConfiguration reads the blocks of docs/install.md that are whole files.
func TestInstallPageShowsAValidConfiguration(t *testing.T) {
	whole := 0
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(contents(t, root(t), "docs", "install.md"), -1) {
		if !strings.HasPrefix(m[1], "domain:") {
			continue
		}
		whole++
		if _, problems := config.Parse("install.md", []byte(m[1])); len(problems) > 0 {
			t.Error(problems.Error())
		}
	}
	if whole == 0 {
		t.Error("the page shows no whole file")
	}
}
