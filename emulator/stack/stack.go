// Package stack runs the emulators together, as one small Azure: Service Bus, Blob storage, Azure Resource Manager, Event
// Grid and managed identity, behind one certificate authority.
package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/emulator/blob"
	"github.com/pointsman/pointsman/emulator/eventgrid"
	"github.com/pointsman/pointsman/emulator/identity"
	"github.com/pointsman/pointsman/emulator/localca"
	"github.com/pointsman/pointsman/emulator/servicebus"
)

// Config says what to run.
type Config struct {
	Dir        string                     // where ca.pem and the blobs go; it must exist
	Persist    bool                       // keep blobs in Dir over a restart
	TableWrite time.Duration              // how long a write of a route table takes; Azure needs 1 to 10 s
	BusAddress string                     // of Service Bus, for agents in other network namespaces; empty: 127.0.0.1 and a free port
	Tables     map[string]json.RawMessage // route tables that exist at the start, by resource id
	Resources  map[string]json.RawMessage // other resources that are only read, such as network interfaces; likewise
	Logger     *slog.Logger               // nil: none

	RouteServers []string      // resource ids of Route Servers that exist at the start
	PeerWrite    time.Duration // how long a write of a Route Server's peer takes; Azure needs about 80 s
}

// Keys of the bus: one that may do everything, and one that may only send, for agents.
const (
	ManageKey = "RootManageSharedAccessKey"
	SendKey   = "agent-send"
)

// A second identity beside the function app's, for what people do by hand: its client id, to ask for a token, and its object id.
const (
	PersonClient = "person"
	PersonObject = "00000000-0000-0000-0000-0000000000aa"
)

// What tokens for each service are for, as the Azure public cloud has it.
const (
	armAudience  = "https://management.azure.com"
	blobAudience = "https://storage.azure.com"
	gridAudience = "https://eventgrid.azure.net"
)

// queues are the two of the function app, with the settings that infra/ gives them.
func queues() []servicebus.QueueConfig {
	q := servicebus.QueueConfig{LockDuration: time.Minute, DuplicateWindow: 10 * time.Minute, DefaultTTL: 24 * time.Hour}
	events, reconcile := q, q
	events.Name, events.MaxDeliveryCount = "route-events", 100
	events.DeadLetterOnExpiration = true // an event that waited too long is a sign of trouble, not rubbish
	reconcile.Name, reconcile.MaxDeliveryCount = "reconcile", 20
	return []servicebus.QueueConfig{events, reconcile}
}

// Stack is the running emulators.
type Stack struct {
	CA       *localca.CA
	Identity *identity.Server
	Bus      *servicebus.Server
	ARM      *arm.Server
	Blob     *blob.Server
	Grid     *eventgrid.Server // the topic of outcome events, and ARM's own events

	caFile string
}

// Start starts all of them, or none.
func Start(cfg Config) (*Stack, error) {
	s := &Stack{caFile: filepath.Join(cfg.Dir, "ca.pem")}
	if err := s.start(cfg); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Stack) start(cfg Config) (err error) {
	if s.CA, err = localca.New(); err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	if err = s.CA.WritePEM(s.caFile); err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	tls, err := s.CA.ServerTLS()
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	if s.Identity, err = identity.Start(identity.Config{Logger: cfg.Logger, Principals: map[string]string{PersonClient: PersonObject}}); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if s.Bus, err = servicebus.Start(servicebus.Config{
		Address: cfg.BusAddress, Queues: queues(), Logger: cfg.Logger, DropLockOnDetach: true,
		Keys: []servicebus.Key{
			{Name: ManageKey, Value: "bG9jYWwtb25seS1tYW5hZ2U=", Listen: true, Send: true},
			{Name: SendKey, Value: "bG9jYWwtb25seS1zZW5k", Send: true},
		},
	}); err != nil {
		return fmt.Errorf("service bus: %w", err)
	}
	s.ARM, err = arm.Start(arm.Config{
		TLS: tls, Logger: cfg.Logger, WriteDuration: func() time.Duration { return cfg.TableWrite }, PeerDuration: func() time.Duration { return cfg.PeerWrite },
		Verify: func(token string) (string, error) { return s.Identity.Verify(token, armAudience) },
	})
	if err != nil {
		return fmt.Errorf("resource manager: %w", err)
	}
	for id, body := range cfg.Tables {
		if err = s.ARM.PutTable(id, body); err != nil {
			return fmt.Errorf("route table %s: %w", id, err)
		}
	}
	if err = s.furnish(cfg); err != nil {
		return err
	}
	for _, id := range cfg.RouteServers {
		if err = s.ARM.PutRouteServer(id, arm.RouteServer{}); err != nil {
			return fmt.Errorf("route server: %w", err)
		}
	}
	blobs := blob.Config{TLS: tls, Logger: cfg.Logger, Verify: func(token string) (string, error) { return s.Identity.Verify(token, blobAudience) }}
	if cfg.Persist {
		blobs.Directory = filepath.Join(cfg.Dir, "blobs")
		if err = os.MkdirAll(blobs.Directory, 0o750); err != nil {
			return fmt.Errorf("blob storage: %w", err)
		}
	}
	if s.Blob, err = blob.Start(blobs); err != nil {
		return fmt.Errorf("blob storage: %w", err)
	}
	return s.startGrid(eventgrid.Config{
		TLS: tls, Logger: cfg.Logger, Verify: func(token string) (string, error) { return s.Identity.Verify(token, gridAudience) },
		Retry: func(int) time.Duration { return time.Second }, // nobody wants to wait for the service's 10 s on a desk
	})
}

// startGrid starts Event Grid and has it told of what happens in Azure Resource Manager.
func (s *Stack) startGrid(cfg eventgrid.Config) (err error) {
	if s.Grid, err = eventgrid.Start(cfg); err != nil {
		return fmt.Errorf("event grid: %w", err)
	}
	s.ARM.Observe(func(e arm.Event) {
		if body := e.Notification(); body != nil {
			s.Grid.Emit(body)
		}
	})
	return nil
}

// DriftTo delivers ARM's events to the function Drift of the Functions host at that URL, until it is called with another one.
func (s *Stack) DriftTo(functionsURL string) {
	s.Grid.Subscribe("drift", functionsURL+"/runtime/webhooks/EventGrid?functionName=Drift")
}

// Close ends all of them.
func (s *Stack) Close() error {
	var errs []error
	if s.Grid != nil {
		errs = append(errs, s.Grid.Close())
	}
	if s.Blob != nil {
		errs = append(errs, s.Blob.Close())
	}
	if s.ARM != nil {
		errs = append(errs, s.ARM.Close())
	}
	if s.Bus != nil {
		errs = append(errs, s.Bus.Close())
	}
	if s.Identity != nil {
		errs = append(errs, s.Identity.Close())
	}
	return errors.Join(errs...)
}

// Environment is what a process needs to use the stack instead of Azure: the names are those that the Azure SDKs and Azure
// Functions use, plus the app settings for the Azure Resource Manager endpoint.
func (s *Stack) Environment() map[string]string {
	env := s.Identity.Environment()
	env["SSL_CERT_FILE"] = s.caFile
	env["ServiceBusConnection"] = s.Bus.ConnectionString(ManageKey)
	env["StateConnection__blobServiceUri"] = s.Blob.URL()
	env["ArmEndpoint"] = s.ARM.URL()
	env["ArmAudience"] = armAudience
	env["OutcomeTopic__topicEndpointUri"] = s.Grid.URL()
	env["IdentityObjectId"] = s.Identity.Principal()
	return env
}

// AgentConnection is the connection string that an agent gets: it may only send.
func (s *Stack) AgentConnection() string { return s.Bus.ConnectionString(SendKey) }

// BaseEnvironment is the caller's environment without the variables that [Stack.Environment] sets: the Functions host lets what is
// already there win over app settings.
func (s *Stack) BaseEnvironment(environ []string) []string {
	ours := s.Environment()
	return slices.DeleteFunc(slices.Clone(environ), func(line string) bool {
		name, _, _ := strings.Cut(line, "=")
		_, set := ours[name]
		return set
	})
}
