// Package system starts the whole of Pointsman's cloud side on this machine: the emulators, and the staged function app under
// the local Functions host. Tests and the demonstration use it; agents are started by whoever needs them.
package system

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pointsman/pointsman/azure/blob"
	"github.com/pointsman/pointsman/emulator/funchost"
	"github.com/pointsman/pointsman/emulator/stack"
)

// TableID is the route table of the domain that Config describes unless it says otherwise.
const TableID = "/subscriptions/00000000-0000-0000-0000-00000000beef/resourceGroups/hub/providers/Microsoft.Network/routeTables/spokes"

// HubID is a Route Server that a domain of the tests may name.
const HubID = "/subscriptions/00000000-0000-0000-0000-00000000beef/resourceGroups/hub/providers/Microsoft.Network/virtualHubs/rs"

// Config says what to start.
type Config struct {
	Dir        string // for files; it must exist
	AppRoot    string // the staged function app; empty: dist/app of the repository
	TableWrite time.Duration
	Domains    map[string]string          // domain files by name
	Tables     map[string]json.RawMessage // route tables by resource id
	Settings   map[string]string          // more app settings
	Hubs       []string                   // Route Servers by resource id
	Drift      bool                       // the function app is told of writes to the route tables
	Logger     *slog.Logger               // of the emulators and the host; nil: none
	Output     io.Writer                  // of the handler; nil: discarded
}

// System is the running cloud side.
type System struct {
	*stack.Stack
	Host *funchost.Host

	cfg Config
}

// Start starts everything and uploads the domain files.
func Start(ctx context.Context, cfg Config) (*System, error) {
	s, err := StartCloud(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err = s.StartHost(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// StartCloud starts the emulators and uploads the domain files. Whoever runs the Functions host elsewhere starts from here: with AppRoot and
// HostSettings.
func StartCloud(ctx context.Context, cfg Config) (*System, error) {
	if cfg.AppRoot == "" {
		cfg.AppRoot = filepath.Join(Root(), "dist", "app")
	}
	if cfg.Output == nil {
		cfg.Output = io.Discard
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	st, err := stack.Start(stack.Config{Dir: cfg.Dir, TableWrite: cfg.TableWrite, Tables: cfg.Tables, Logger: cfg.Logger, RouteServers: cfg.Hubs})
	if err != nil {
		return nil, fmt.Errorf("start the emulators: %w", err)
	}
	s := &System{Stack: st, cfg: cfg}
	for name, text := range cfg.Domains {
		if err = s.Upload(ctx, name, text); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// HostSettings are the app settings of the function app.
func (s *System) HostSettings() map[string]string {
	settings := s.Environment()
	settings["SweepSchedule"] = "0 */5 * * * *"
	maps.Copy(settings, s.cfg.Settings)
	return settings
}

// StartHost starts the Functions host; after StopHost or a crash it can be started again.
func (s *System) StartHost(ctx context.Context) error {
	host, err := funchost.Start(ctx, funchost.Config{
		AppRoot: s.cfg.AppRoot, Settings: s.HostSettings(), Environment: s.BaseEnvironment(os.Environ()), StateDir: s.cfg.Dir, Logger: s.cfg.Logger, HandlerOutput: s.cfg.Output,
	})
	if err != nil {
		return fmt.Errorf("start the Functions host: %w", err)
	}
	s.Host = host
	if s.cfg.Drift {
		s.DriftTo(host.URL())
	}
	return nil
}

// Close ends the host and the emulators.
func (s *System) Close() error {
	var err error
	if s.Host != nil {
		err = s.Host.Close()
	}
	return errors.Join(err, s.Stack.Close())
}

// Container opens a container of the state store as a person would, with the same adapter that the function app uses.
func (s *System) Container(name string) (*blob.Store, error) {
	return blob.New(blob.Config{ServiceURL: s.Blob.URL(), Credential: s.Credential(), Container: name, Transport: s.Client()})
}

// Client returns an HTTP client that trusts the stack's certificates. It keeps no idle connections.
func (s *System) Client() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig.RootCAs = s.CA.Pool()
	transport.DisableKeepAlives = true
	return &http.Client{Transport: transport}
}

// Credential asks the identity endpoint of the stack as a function app does.
func (s *System) Credential() azcore.TokenCredential { return tokens{s} }

type tokens struct{ s *System }

// GetToken implements azcore.TokenCredential.
func (t tokens) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	env := t.s.Identity.Environment()
	resource := o.Scopes[0]
	if n := len("/.default"); len(resource) > n {
		resource = resource[:len(resource)-n]
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, env["IDENTITY_ENDPOINT"]+"?api-version=2019-08-01&resource="+resource, nil)
	if err != nil {
		return azcore.AccessToken{}, fmt.Errorf("token: %w", err)
	}
	req.Header.Set("X-Identity-Header", env["IDENTITY_HEADER"])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return azcore.AccessToken{}, fmt.Errorf("token: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err = json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return azcore.AccessToken{}, fmt.Errorf("token: %w", err)
	}
	return azcore.AccessToken{Token: answer.AccessToken, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// Upload writes a domain file.
func (s *System) Upload(ctx context.Context, name, text string) error {
	store, err := s.Container("pointsman")
	if err != nil {
		return fmt.Errorf("upload domain file %s: %w", name, err)
	}
	if err = store.Ensure(ctx); err != nil {
		return fmt.Errorf("upload domain file %s: %w", name, err)
	}
	if err = store.Put(ctx, "domains/"+name+".yaml", []byte(text)); err != nil {
		return fmt.Errorf("upload domain file %s: %w", name, err)
	}
	return nil
}

// Route is a route of a table as the emulator shows it.
type Route struct {
	Name       string
	Prefix     string
	Type       string
	NextHop    string // several with commas between them
	Properties json.RawMessage
}

// Routes returns the routes of a table by prefix.
func (s *System) Routes(id string) (map[string]Route, error) {
	raw, _, ok := s.ARM.Table(id)
	if !ok {
		return nil, fmt.Errorf("there is no route table %s", id)
	}
	var table struct {
		Properties struct {
			Routes []struct {
				Name       string
				Properties json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(raw, &table); err != nil {
		return nil, fmt.Errorf("route table %s: %w", id, err)
	}
	out := map[string]Route{}
	for _, r := range table.Properties.Routes {
		var p struct {
			AddressPrefix    string
			NextHopType      string
			NextHopIPAddress string `json:"nextHopIpAddress"`
			NextHop          struct {
				Addresses []string `json:"nextHopIpAddresses"`
			}
		}
		if err := json.Unmarshal(r.Properties, &p); err != nil {
			return nil, fmt.Errorf("route %s of %s: %w", r.Name, id, err)
		}
		out[p.AddressPrefix] = Route{Name: r.Name, Prefix: p.AddressPrefix, Type: p.NextHopType, NextHop: cmp.Or(p.NextHopIPAddress, strings.Join(p.NextHop.Addresses, ",")), Properties: r.Properties}
	}
	return out, nil
}

// Prefixes returns n neighbouring /24s from 10.64.0.0 on: the prefixes of the demonstration and of many tests.
func Prefixes(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + i/256), byte(i % 256), 0}), 24)
	}
	return out
}

// Root returns the repository's root on the machine that built this.
func Root() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		panic("system: no caller information")
	}
	root := filepath.Dir(filepath.Dir(filepath.Dir(file)))
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		panic("system: built with -trimpath, so the repository is not known: " + err.Error())
	}
	return root
}
