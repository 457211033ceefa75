package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/azure/blob"
	"github.com/pointsman/pointsman/azure/routeserver"
	"github.com/pointsman/pointsman/azure/routetable"
	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/emulator/stack"
	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/functions/reconcile"
	"github.com/pointsman/pointsman/replay"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/wake"
	"github.com/pointsman/pointsman/test/system"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"pointsman": main}) }

func TestOffline(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/offline", RequireExplicitExec: true, UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			return copyFiles(env.WorkDir, "testdata/rib.mrt.gz", "testdata/updates.mrt.bz2")
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": exitCode},
	})
}

var update = flag.Bool("update", false, "write the golden outputs of the scripts")

// copyFiles puts files that are no text into a script's directory.
func copyFiles(dir string, names ...string) error {
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err = os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// exitCode runs pointsman and wants an exit code: code N ARGUMENT...
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N ARGUMENT...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err = ts.Exec("pointsman", args[1:]...); err != nil {
		text, known := strings.CutPrefix(err.Error(), "exit status ")
		if got, err = strconv.Atoi(text); !known || err != nil {
			ts.Fatalf("pointsman did not exit: %s", text)
		}
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// The scripts in testdata/online run against emulators of their own, with the table "spokes" and the domain of hub.yaml. More commands: ingest FILE
// does to the journal FILE what the function app does to events; merge FILE does the same without reconciling; queued N wants N messages in
// route-events; deliver waits for messages in route-events and does to them what the function app does; await FILE waits for a file;
// fill FILE TEMPLATE puts what is in FILE where the template has {FILE}; azure WHAT changes something in Azure: see cloud.azure.
func TestOnline(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/online", RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			c, err := newCloud(filepath.Join(env.WorkDir, ".cloud"))
			if err != nil {
				return err
			}
			env.Defer(func() { _ = c.Close() })
			env.Values["cloud"] = c
			for name, value := range c.Environment() {
				env.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":    exitCode,
			"ingest":  func(ts *testscript.TestScript, _ bool, args []string) { cloudOf(ts).take(ts, args[0], true) },
			"merge":   func(ts *testscript.TestScript, _ bool, args []string) { cloudOf(ts).take(ts, args[0], false) },
			"deliver": func(ts *testscript.TestScript, _ bool, _ []string) { cloudOf(ts).deliver(ts) },
			"azure":   func(ts *testscript.TestScript, _ bool, args []string) { cloudOf(ts).azure(ts, args[0], args[1:]) },
			"fill":    func(ts *testscript.TestScript, _ bool, args []string) { fill(ts, args[0], args[1]) },
			"await":   func(ts *testscript.TestScript, _ bool, args []string) { await(ts, ts.MkAbs(args[0])) },
			"queued": func(ts *testscript.TestScript, _ bool, args []string) {
				if q, _ := cloudOf(ts).Bus.Queue("route-events"); strconv.Itoa(q.Active) != args[0] {
					ts.Fatalf("%d messages, want %s", q.Active, args[0])
				}
			},
		},
	})
}

// azure does what somebody else does there.
func (c *cloud) azure(ts *testscript.TestScript, what string, args []string) {
	const network = "/subscriptions/00000000-0000-0000-0000-00000000beef/resourceGroups/hub/providers/Microsoft.Network/"
	switch what {
	case "subnet": // PREFIX: a subnet that uses the table
		id := network + "virtualNetworks/v/subnets/spokes"
		c.ARM.PutSubnet(id, args[0])
		c.ARM.Associate(system.TableID, id)
	case "nic": // NAME ADDRESS true|false
		ts.Check(c.ARM.PutResource(network+"networkInterfaces/"+args[0], fmt.Appendf(nil, `{"properties": {"enableIPForwarding": %s, "ipConfigurations": [{"properties": {"privateIPAddress": %q}}]}}`, args[2], args[1])))
	case "lock": // on the table
		c.ARM.Faults().Lock(system.TableID)
	case "policy": // against the table
		c.ARM.Faults().DenyPolicy(system.TableID)
	case "forget": // ID: a resource that is only read
		c.ARM.DeleteResource(args[0])
	case "forbid": // METHOD SCOPE
		c.ARM.Faults().Forbid("", args[1], args[0])
	case "fail": // PATH: requests with that in their path are answered with 500
		c.ARM.Faults().Script(arm.Fault{PathContains: args[0], Status: 500, Code: "InternalServerError", Message: "try later", Count: -1})
	case "drop": // PATH: likewise, not answered
		c.ARM.Faults().Script(arm.Fault{PathContains: args[0], DropConnection: true, Count: -1})
	case "calm":
		c.ARM.Faults().Clear()
	default:
		ts.Fatalf("azure %s is not known", what)
	}
}

// fill puts a text into a file, at the place that is named after it.
func fill(ts *testscript.TestScript, name, template string) {
	text := strings.ReplaceAll(ts.ReadFile(template), "{"+name+"}", strings.TrimSpace(ts.ReadFile(name)))
	ts.Check(os.WriteFile(ts.MkAbs(template), []byte(text), 0o600))
}

// await waits until there is a file.
func await(ts *testscript.TestScript, name string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-tick.C {
		if _, err := os.Stat(name); err == nil {
			return
		}
	}
	ts.Fatalf("there is no %s after 30 s", name)
}

// cloud is the emulators, and the functions in this process.
type cloud struct {
	*stack.Stack
	ingest    *ingest.Ingest
	reconcile *reconcile.Reconcile
	wakes     []wake.Wake
	runs      int
	delivered int64 // sequence number
}

func cloudOf(ts *testscript.TestScript) *cloud { return ts.Value("cloud").(*cloud) }

func newCloud(dir string) (*cloud, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	table := json.RawMessage(`{"location": "westeurope", "properties": {"routes": [{"name": "theirs", "properties": {"addressPrefix": "10.64.9.0/24", "nextHopType": "None"}}]}}`)
	st, err := stack.Start(stack.Config{Dir: dir, Tables: map[string]json.RawMessage{system.TableID: table}, RouteServers: []string{system.HubID}})
	if err != nil {
		return nil, err
	}
	c := &cloud{Stack: st}
	sys := &system.System{Stack: st}
	var containers []*blob.Store
	for _, name := range []string{"pointsman", "poison"} {
		store, failed := sys.Container(name)
		if failed != nil {
			return nil, failed
		}
		if err = store.Ensure(context.Background()); err != nil {
			return nil, err
		}
		containers = append(containers, store)
	}
	tables, err := routetable.New(routetable.Config{Credential: sys.Credential(), Endpoint: st.ARM.URL(), Audience: st.Environment()["ArmAudience"], Transport: sys.Client()})
	if err != nil {
		return nil, err
	}
	servers, err := routeserver.New(routeserver.Config{Credential: sys.Credential(), Endpoint: st.ARM.URL(), Audience: st.Environment()["ArmAudience"], Transport: sys.Client()})
	if err != nil {
		return nil, err
	}
	docs, log := documents.NewStore(containers[0], 1), slog.New(slog.DiscardHandler)
	c.ingest = &ingest.Ingest{Store: docs, Wakes: c, Lot: ingest.ShelfLot{Shelf: containers[1]}, Journal: documents.NewJournal(containers[0]), Now: time.Now, Log: log, Pause: func(context.Context, time.Duration) {}}
	c.reconcile = &reconcile.Reconcile{Store: docs, Tables: tables, Subnets: tables, Wakes: c, Now: time.Now, Lease: time.Minute, Log: log, NewRun: func() string { c.runs++; return fmt.Sprint("run-", c.runs) }}
	c.reconcile.Peers, c.reconcile.Learned = servers, servers
	return c, nil
}

// Send implements ingest.Wakes and reconcile.Wakes.
func (c *cloud) Send(_ context.Context, w wake.Wake, _ time.Time) error {
	c.wakes = append(c.wakes, w)
	return nil
}

// take does to a journal what the function app does to events.
func (c *cloud) take(ts *testscript.TestScript, file string, thenReconcile bool) {
	entries, err := replay.Read(file, []byte(ts.ReadFile(file)))
	ts.Check(err)
	var batch []invocation.Message
	for i, entry := range entries {
		body, wrong := event.Encode(entry.Event)
		ts.Check(wrong)
		batch = append(batch, invocation.Message{Body: body, ID: entry.Event.ID(), SequenceNumber: int64(i), EnqueuedAt: entry.At})
	}
	c.handle(ts, batch, thenReconcile)
}

// deliver waits for messages that were not delivered yet.
func (c *cloud) deliver(ts *testscript.TestScript) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-tick.C {
		var batch []invocation.Message
		for _, m := range c.Bus.Peek("route-events") {
			if m.SequenceNumber > c.delivered {
				c.delivered = m.SequenceNumber
				batch = append(batch, invocation.Message{Body: m.Body, ID: m.MessageID, SequenceNumber: m.SequenceNumber, EnqueuedAt: m.EnqueuedAt})
			}
		}
		if len(batch) > 0 {
			c.handle(ts, batch, true)
			return
		}
	}
	ts.Fatalf("no message after 30 s")
}

func (c *cloud) handle(ts *testscript.TestScript, batch []invocation.Message, thenReconcile bool) {
	c.wakes = nil
	ts.Check(c.ingest.Handle(context.Background(), batch))
	for wakes := c.wakes; thenReconcile && len(wakes) > 0; wakes = wakes[1:] {
		ts.Check(c.reconcile.Look(context.Background(), wakes[0], invocation.Message{ID: wakes[0].ID()}))
	}
}

// Every command has an example, and some script runs it as it stands.
func TestExamplesAreRun(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var scripts strings.Builder
	for _, name := range files {
		text, unread := os.ReadFile(name)
		if unread != nil {
			t.Fatal(unread)
		}
		scripts.Write(text)
	}
	for _, c := range commands(command()) {
		ran := 0
		for line := range strings.Lines(c.Example) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " >")
			arguments, ours := strings.CutPrefix(line, "pointsman ")
			if !ours {
				continue
			}
			ran++
			if !strings.Contains(scripts.String(), "exec pointsman "+arguments+"\n") && !strings.Contains(scripts.String(), "exec pointsman "+arguments+" &") && !strings.Contains(scripts.String(), " "+arguments+"\n") {
				t.Errorf("%s: no script runs %q", c.CommandPath(), line)
			}
		}
		if ran == 0 && !c.HasSubCommands() {
			t.Errorf("%s has no example", c.CommandPath())
		}
	}
}

// commands returns all commands below c that are ours.
func commands(c *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for _, sub := range c.Commands() {
		if sub.Name() != "completion" && sub.Name() != "help" {
			out = append(append(out, sub), commands(sub)...)
		}
	}
	return out
}
