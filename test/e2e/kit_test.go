package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/functions/status"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/test/system"
)

// quick is how long a write of a table takes where a test does not need to act during one.
const quick = 200 * time.Millisecond

// carried starts a system in which nva-a carries n prefixes that nva-b could carry too.
func carried(t *testing.T, n int, write time.Duration) (*world, []netip.Prefix) {
	t.Helper()
	w := start(t, write)
	prefixes := system.Prefixes(n)
	w.publish(w.said("nva-a", event.Snapshot, announce(prefixes)), w.said("nva-b", event.Snapshot, announce(prefixes)))
	free := withoutBlocked(prefixes)
	w.carries(hopA, free)
	w.settled()
	w.ARM.ResetCalls()
	return w, free
}

// withoutBlocked leaves out the prefix that a route of somebody else holds.
func withoutBlocked(prefixes []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range prefixes {
		if p.String() != "10.64.7.0/24" {
			out = append(out, p)
		}
	}
	return out
}

// dies lets the dead-man switch of nva-a fire.
func (w *world) dies() {
	w.t.Helper()
	w.publish(w.said("nva-a", event.Expired, nil))
}

// foreign is what of the table is not Pointsman's: every route that it did not write, and everything but the routes, as raw JSON. Only the state of
// the last operation is left out, which Azure shows with every route.
func (w *world) foreign() map[string]string {
	w.t.Helper()
	raw, _, ok := w.ARM.Table(system.TableID)
	if !ok {
		w.t.Fatalf("there is no table %s", system.TableID)
	}
	var table map[string]json.RawMessage
	var properties map[string]json.RawMessage
	var routes []map[string]json.RawMessage
	w.decode(raw, &table)
	w.decode(table["properties"], &properties)
	w.decode(properties["routes"], &routes)
	provisioning := regexp.MustCompile(`"provisioningState":"[A-Za-z]*",?`)
	out := map[string]string{}
	for name, v := range table {
		if name != "properties" && name != "etag" {
			out[name] = string(v)
		}
	}
	for name, v := range properties {
		if name != "routes" && name != "provisioningState" {
			out["properties."+name] = string(v)
		}
	}
	for _, r := range routes {
		if !bytes.HasPrefix(r["name"], []byte(`"pointsman-`)) {
			out["route "+string(r["name"])] = provisioning.ReplaceAllString(string(r["properties"]), "")
		}
	}
	return out
}

func (w *world) decode(raw []byte, into any) {
	w.t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		w.t.Fatal(err)
	}
}

// keeps fails where something that is not Pointsman's changed.
func (w *world) keeps(before map[string]string) {
	w.t.Helper()
	if diff := cmp.Diff(before, w.foreign()); diff != "" {
		w.t.Errorf("what others put into the table changed, -before +after:\n%s", diff)
	}
}

// report asks the Status function.
func (w *world) report() status.Report {
	w.t.Helper()
	var r status.Report
	body := w.get("/api/status")
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		w.t.Fatalf("status: %v: %s", err, body)
	}
	return r
}

// target returns what Status says of a target.
func (w *world) target(name string) status.Target {
	w.t.Helper()
	for _, d := range w.report().Domains {
		for _, t := range d.Targets {
			if t.Name == name {
				return t
			}
		}
	}
	w.t.Fatalf("status shows no target %s", name)
	return status.Target{}
}

func (w *world) get(path string) string {
	w.t.Helper()
	return w.request(http.MethodGet, path, "", http.StatusOK)
}

// sweep runs the timer's function now.
func (w *world) sweep() {
	w.t.Helper()
	w.request(http.MethodPost, "/admin/functions/Sweep", `{"input":""}`, http.StatusAccepted)
}

func (w *world) request(method, path, body string, want int) string {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.Host.URL()+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		w.t.Fatalf("%s %s: %s, %v: %s", method, path, resp.Status, err, text)
	}
	return string(text)
}

// shows waits until the text of Status in the format of Prometheus has the line.
func (w *world) shows(line string) {
	w.t.Helper()
	w.until("the metrics show "+line, func() error {
		if text := w.get("/api/status?format=prometheus"); !strings.Contains("\n"+text, "\n"+line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			var near []string
			for l := range strings.Lines(text) {
				if strings.HasPrefix(l, name) && !strings.HasSuffix(l, " 0\n") {
					near = append(near, l)
				}
			}
			return fmt.Errorf("it has %q", near)
		}
		return nil
	})
}

// logs waits until the handler's log has the text.
func (w *world) logs(text string) {
	w.t.Helper()
	w.until("the log has "+text, func() error {
		if !strings.Contains(w.log.String(), text) {
			return fmt.Errorf("it has\n%s", w.log)
		}
		return nil
	})
}

// lasts waits for a time: for outages, whose length is all that matters of them.
func (w *world) lasts(d time.Duration) {
	w.t.Helper()
	end := time.Now().Add(d)
	w.until("an outage lasts", func() error {
		if time.Now().Before(end) {
			return fmt.Errorf("%s are left", time.Until(end))
		}
		return nil
	})
}

// putTable replaces a table past Pointsman, as somebody else would.
func (w *world) putTable(id string, table any) {
	w.t.Helper()
	body, err := json.Marshal(table)
	if err != nil {
		w.t.Fatal(err)
	}
	if err = w.ARM.PutTable(id, body); err != nil {
		w.t.Fatal(err)
	}
}
