package funchost

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
)

func timerRig(t *testing.T, hostMore string) *rig {
	t.Helper()
	return newRig(t, map[string]string{"host.json": hostJSON(t, hostMore), "Tick/function.json": timerFunction})
}

func TestB1_ExecutableInRootOrPath(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "handler"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, want := executable(root, "handler"), filepath.Join(root, "handler"); got != want {
		t.Errorf("in root: %s, want %s", got, want)
	}
	if got := executable(root, "dotnet"); got != "dotnet" {
		t.Errorf("not in root: %s, want a name for PATH", got)
	}
}

func TestB1_DirectoryAndArguments(t *testing.T) {
	exe, _ := os.Executable()
	r := newRig(t, map[string]string{
		"host.json": `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":` + string(marshal(exe)) +
			`,"workingDirectory":"work","arguments":["%GREETING%","%UNKNOWN%","plain"]}}}`,
		"work/x": "", "Tick/function.json": timerFunction,
	})
	r.cfg.Settings = map[string]string{"GREETING": "hello"}
	r.startHost()
	r.until("handler started", func() bool { return len(r.startRecords()) == 1 })
	got := r.startRecords()[0]
	if !slices.Equal(got.Args, []string{"hello", "%UNKNOWN%", "plain"}) {
		t.Errorf("arguments %q", got.Args)
	}
	if filepath.Base(got.Dir) != "work" {
		t.Errorf("working directory %s", got.Dir)
	}
}

func TestB2_B3_EnvironmentAndPort(t *testing.T) {
	r := timerRig(t, "")
	r.cfg.Settings = map[string]string{"A": "setting"}
	r.begin(func(q recorded) scripted {
		if q.instance == 1 {
			return scripted{Exit: new(exitRestart)}
		}
		return scripted{}
	})
	r.startHost()
	r.until("two starts", func() bool { return len(r.startRecords()) == 2 })
	first, second := r.startRecords()[0].Env, r.startRecords()[1].Env
	if first["A"] != "setting" || first["FUNCTIONS_APP_ROOT_PATH"] != r.cfg.AppRoot {
		t.Errorf("environment %v", first)
	}
	if p := first["FUNCTIONS_CUSTOMHANDLER_PORT"]; p == "" || p != first["FUNCTIONS_HTTPWORKER_PORT"] || p != second["FUNCTIONS_CUSTOMHANDLER_PORT"] {
		t.Errorf("ports %q %q, then %q", p, first["FUNCTIONS_HTTPWORKER_PORT"], second["FUNCTIONS_CUSTOMHANDLER_PORT"])
	}
	id := first["FUNCTIONS_CUSTOMHANDLER_WORKER_ID"]
	if _, err := uuid.Parse(id); err != nil || id != first["FUNCTIONS_HTTPWORKER_ID"] || id == second["FUNCTIONS_CUSTOMHANDLER_WORKER_ID"] {
		t.Errorf("worker ids %q %q, then %q", id, first["FUNCTIONS_HTTPWORKER_ID"], second["FUNCTIONS_CUSTOMHANDLER_WORKER_ID"])
	}
}

func TestB4_InitializationTimeoutCountsAsError(t *testing.T) {
	exe, _ := os.Executable()
	r := newRig(t, map[string]string{
		"host.json": `{"version":"2.0","customHandler":{"initializationTimeout":"00:00:00.05","description":{"defaultExecutablePath":` +
			string(marshal(exe)) + `}}}`,
	})
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	r.begin(func(recorded) scripted { <-never; return scripted{} })
	r.startHost()
	if err := r.host.Wait(); !errors.Is(err, ErrHandlerGone) {
		t.Errorf("Wait = %v", err)
	}
	if n := strings.Count(r.log.String(), "initialization timeout"); n != maxErrors {
		t.Errorf("%d initialization timeouts", n)
	}
}

func TestB5_InvocationsWaitForTheHandler(t *testing.T) {
	r := timerRig(t, "")
	release := make(chan struct{})
	r.begin(func(recorded) scripted { <-release; return scripted{} })
	r.startHost()
	if got := r.admin("Tick", ""); got != http.StatusAccepted {
		t.Fatalf("admin %d", got)
	}
	if i := <-r.events; i.Ended {
		t.Fatalf("ended before the handler was ready: %+v", i)
	}
	close(release)
	if i := r.ended(); !i.OK {
		t.Errorf("invocation failed: %v", i.Err)
	}
}

func TestB6_ThirdCrashEndsTheHost(t *testing.T) {
	r := timerRig(t, "")
	r.begin(always(scripted{Exit: new(1)}))
	r.startHost()
	if err := r.host.Wait(); !errors.Is(err, ErrHandlerGone) {
		t.Errorf("Wait = %v", err)
	}
	if n := len(r.startRecords()); n != maxErrors {
		t.Errorf("%d starts", n)
	}
}

func TestB6_ErrorsFarApartAreForgotten(t *testing.T) {
	now := time.Now()
	p := &process{now: func() time.Time { return now }, timing: Timing{}.withDefaults()}
	var got []int
	for range 4 {
		now = now.Add(20 * time.Minute)
		got = append(got, p.countError())
	}
	now = now.Add(31 * time.Minute)
	got = append(got, p.countError())
	if !slices.Equal(got, []int{1, 2, 3, 4, 1}) {
		t.Errorf("counts %v", got)
	}
}

func TestB6_CrashFailsInFlightAndRestarts(t *testing.T) {
	r := timerRig(t, "")
	inside := make(chan struct{})
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	r.answer(func(q recorded) scripted {
		if q.instance == 1 {
			close(inside)
			<-hang
		}
		return scripted{Body: "{}"}
	})
	r.startHost()
	r.admin("Tick", "")
	<-inside
	if err := syscall.Kill(r.host.HandlerPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if i := r.ended(); i.OK {
		t.Error("the invocation in flight survived kill -9")
	}
	r.admin("Tick", "")
	if i := r.ended(); !i.OK {
		t.Errorf("after the restart: %v", i.Err)
	}
	if n := len(r.startRecords()); n != 2 {
		t.Errorf("%d starts", n)
	}
}

func TestB6_Exit200IsNotCounted(t *testing.T) {
	r := timerRig(t, "")
	r.begin(func(q recorded) scripted {
		if q.instance <= 5 {
			return scripted{Exit: new(exitRestart)}
		}
		return scripted{}
	})
	r.startHost()
	r.admin("Tick", "")
	if i := r.ended(); !i.OK {
		t.Errorf("after five requested restarts: %v", i.Err)
	}
}

func TestB6_Exit0LeavesARefusingPort(t *testing.T) {
	r := timerRig(t, "")
	r.begin(always(scripted{Exit: new(0)}))
	r.startHost()
	r.admin("Tick", "")
	if i := r.ended(); i.OK || !errors.Is(i.Err, syscall.ECONNREFUSED) {
		t.Errorf("invocation error = %v, want connection refused", i.Err)
	}
	r.until("the exit is accepted", func() bool { return strings.Contains(r.log.String(), "is not restarted") })
	if n := len(r.startRecords()); n != 1 {
		t.Errorf("%d starts", n)
	}
}

func TestB7_OutputLevels(t *testing.T) {
	r := timerRig(t, "")
	r.begin(always(scripted{Stdout: "to stdout\n", Stderr: "a Warning here\nbroken\n"}))
	r.startHost()
	for _, want := range []string{`level=INFO msg="Handler output" line="to stdout"`, `level=WARN msg="Handler output" line="a Warning here"`, `level=ERROR msg="Handler output" line=broken`} {
		r.until(want, func() bool { return strings.Contains(r.log.String(), want) })
	}
}

func TestB7_OutputToWriter(t *testing.T) {
	var out bytes.Buffer
	p := &process{output: &out, quiet: true}
	p.line(t.Context(), "hello", p.stderrLevel("hello"))
	if got := out.String(); got != "[handler info] hello\n" {
		t.Errorf("%q", got)
	}
}

func TestB8_FunctionTimeoutKillsTheHandler(t *testing.T) {
	r := timerRig(t, `,"functionTimeout":"00:00:00.3"`)
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	r.answer(func(q recorded) scripted {
		if q.instance <= 4 {
			<-hang
		}
		return scripted{Body: "{}"}
	})
	r.startHost()
	for range 4 { // more than maxErrors: timeouts are not counted
		r.admin("Tick", "")
		if i := r.ended(); !errors.Is(i.Err, ErrTimeout) {
			t.Fatalf("error = %v, want a timeout", i.Err)
		}
	}
	r.admin("Tick", "")
	if i := r.ended(); !i.OK {
		t.Errorf("after the restart: %v", i.Err)
	}
}

func TestB9_CloseWaitsThenKills(t *testing.T) {
	r := timerRig(t, "")
	r.cfg.Timing.StopGrace = 200 * time.Millisecond
	inside, hang := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(hang) })
	r.answer(func(recorded) scripted { close(inside); <-hang; return scripted{} })
	r.startHost()
	r.admin("Tick", "")
	<-inside
	pid := r.host.HandlerPID()
	if err := r.host.Close(); err == nil {
		t.Error("Close said nothing about the killed invocation")
	}
	if i := r.ended(); i.OK {
		t.Error("the hanging invocation succeeded")
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the handler still runs: %v", err)
	}
	if err := r.host.Wait(); err != nil {
		t.Errorf("Wait after Close = %v", err)
	}
}

func TestB9_CloseLetsInvocationsFinish(t *testing.T) {
	r := timerRig(t, "")
	inside, release := make(chan struct{}), make(chan struct{})
	r.answer(func(recorded) scripted { close(inside); <-release; return scripted{Body: "{}"} })
	r.startHost()
	r.admin("Tick", "")
	<-inside
	closed := make(chan error)
	go func() { closed <- r.host.Close() }()
	<-r.host.listening.Done()
	close(release)
	if err := <-closed; err != nil {
		t.Errorf("Close = %v", err)
	}
	if i := r.ended(); !i.OK {
		t.Errorf("the invocation failed: %v", i.Err)
	}
}
