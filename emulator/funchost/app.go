package funchost

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// hostFile is what the host reads of host.json (contract A2).
type hostFile struct {
	Version       string
	CustomHandler struct {
		Description *struct {
			DefaultExecutablePath          string
			Arguments                      []string
			WorkingDirectory               string
			UseStdErrorStreamForErrorsOnly *bool
		}
		EnableForwardingHTTPRequest bool `json:"enableForwardingHttpRequest"`
		EnableProxyingHTTPRequest   bool `json:"enableProxyingHttpRequest"`
		InitializationTimeout       *timeSpan
		Port                        json.RawMessage
	}
	FunctionTimeout *timeSpan
	Extensions      struct {
		ServiceBus serviceBusOptions
		HTTP       struct{ RoutePrefix *string } `json:"http"`
	}
	Retry *retryPolicy
}

// serviceBusOptions are host.json's extensions.serviceBus. MaxMessageBatchSize and AutoCompleteMessages are read only
// to say that the trigger overrides them (contract A4).
type serviceBusOptions struct {
	MaxConcurrentCalls         *int
	MaxConcurrentSessions      *int
	MaxAutoLockRenewalDuration *timeSpan
	SessionIdleTimeout         *timeSpan
	MinMessageBatchSize        *int
	MaxBatchWaitTime           *timeSpan
	MaxMessageBatchSize        *int
	AutoCompleteMessages       *bool
}

// binding is one entry of function.json's bindings; the fields of all binding types side by side.
type binding struct {
	Type, Name, Direction string
	DataType, Cardinality string

	Connection           string
	QueueName            string
	TopicName            string
	SubscriptionName     string
	IsSessionsEnabled    bool
	MaxMessageBatchSize  *int
	AutoCompleteMessages *bool

	Schedule     string
	RunOnStartup bool
	UseMonitor   *bool

	Route   *string
	Methods []string
}

func (b *binding) is(kind string) bool { return strings.EqualFold(b.Type, kind) }

func (b *binding) isTrigger() bool { return strings.HasSuffix(strings.ToLower(b.Type), "trigger") }

// many reports whether the trigger delivers batches.
func (b *binding) many() bool { return strings.EqualFold(b.Cardinality, "many") }

// function is one loaded function.
type function struct {
	name    string
	trigger binding
	outputs []binding
	retry   *retryPolicy
}

// forwarded reports whether enableForwardingHttpRequest applies: exactly an HTTP trigger and an HTTP output
// (contract C11).
func (f *function) forwarded(h *hostFile) bool {
	enabled := h.CustomHandler.EnableForwardingHTTPRequest || h.CustomHandler.EnableProxyingHTTPRequest
	return enabled && f.trigger.is("httpTrigger") && len(f.outputs) == 1 && f.outputs[0].is("http")
}

// app is a loaded app root.
type app struct {
	root      string
	host      hostFile
	functions []*function
	problems  []error
}

// loadApp reads host.json and the function.json files. A bad function is a problem of its own and is left out; a bad
// host.json is an error (contract A1, A2).
func loadApp(root string, s settings) (*app, error) {
	a := &app{root: root}
	text, err := os.ReadFile(filepath.Join(root, "host.json"))
	if err != nil {
		return nil, fmt.Errorf("script root %s: %w", root, err)
	}
	if err = json.Unmarshal(text, &a.host); err != nil {
		return nil, fmt.Errorf("host.json: %w", err)
	}
	if err = a.host.check(); err != nil {
		return nil, fmt.Errorf("host.json: %w", err)
	}
	folders, err := os.ReadDir(root) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("script root %s: %w", root, err)
	}
	for _, folder := range folders {
		path := filepath.Join(root, folder.Name(), "function.json")
		text, err = os.ReadFile(path)
		if err != nil {
			continue // not a function
		}
		a.add(folder.Name(), text, s)
	}
	return a, nil
}

func (h *hostFile) check() error {
	if h.Version != "2.0" {
		return fmt.Errorf("version is %q, must be \"2.0\"", h.Version)
	}
	if d := h.CustomHandler.Description; d == nil {
		return errors.New("missing value for customHandler.description")
	} else if d.DefaultExecutablePath == "" {
		return errors.New("missing value for customHandler.description.defaultExecutablePath")
	}
	return nil
}

func (a *app) add(name string, text []byte, s settings) {
	f, err := parseFunction(name, text, s)
	if err == nil && f != nil {
		a.functions = append(a.functions, f)
	}
	if err != nil {
		a.problems = append(a.problems, fmt.Errorf("the '%s' function is in error: %w", name, err))
	}
}

func (a *app) function(name string) *function {
	i := slices.IndexFunc(a.functions, func(f *function) bool { return strings.EqualFold(f.name, name) })
	if i < 0 {
		return nil
	}
	return a.functions[i]
}

// parseFunction reads one function.json; (nil, nil) for a function that is disabled.
func parseFunction(name string, text []byte, s settings) (*function, error) {
	if !regexp.MustCompile(`(?i)^[a-z][a-z0-9_\-]{0,127}$`).MatchString(name) || strings.EqualFold(name, "host") {
		return nil, fmt.Errorf("'%s' is not a valid function name", name)
	}
	var file struct {
		Disabled bool
		Bindings []binding
		Retry    *retryPolicy
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("function.json: %w", err)
	}
	if off, _ := s.get("AzureWebJobs." + name + ".Disabled"); file.Disabled || off == "1" || strings.EqualFold(off, "true") {
		return nil, nil
	}
	f := &function{name: name, retry: file.Retry}
	if err := f.addBindings(file.Bindings, s); err != nil {
		return nil, err
	}
	return f, f.check()
}

func (f *function) addBindings(bindings []binding, s settings) error {
	triggers := 0
	for _, b := range bindings {
		if !regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9]{0,127}|\$return)$`).MatchString(b.Name) {
			return fmt.Errorf("the binding name %q is invalid", b.Name)
		}
		if err := b.resolve(s); err != nil {
			return fmt.Errorf("binding %s: %w", b.Name, err)
		}
		switch {
		case b.isTrigger():
			triggers++
			f.trigger = b
		case strings.EqualFold(b.Direction, "out"):
			f.outputs = append(f.outputs, b)
		default:
			return fmt.Errorf("binding %s: the input binding type '%s' is not registered", b.Name, b.Type)
		}
	}
	switch triggers {
	case 0:
		return errors.New("no trigger binding specified")
	case 1:
		return nil
	default:
		return errors.New("multiple trigger bindings defined; a function can only have a single trigger binding")
	}
}

func (b *binding) resolve(s settings) error {
	for _, text := range []*string{&b.QueueName, &b.TopicName, &b.SubscriptionName, &b.Schedule} {
		v, err := s.expand(*text)
		if err != nil {
			return err
		}
		*text = v
	}
	return nil
}

func (f *function) check() error {
	for _, b := range f.outputs {
		if !b.is("http") && !b.is("serviceBus") {
			return fmt.Errorf("the output binding type '%s' is not registered", b.Type)
		}
	}
	t := &f.trigger
	switch {
	case t.is("serviceBusTrigger"):
		if t.QueueName == "" && (t.TopicName == "" || t.SubscriptionName == "") {
			return errors.New("serviceBusTrigger needs queueName, or topicName and subscriptionName")
		}
	case t.is("timerTrigger"):
		_, err := parseSchedule(t.Schedule)
		return err
	case t.is("httpTrigger"):
		_, err := parseRoute(t.route(f.name))
		return err
	case !t.is("eventGridTrigger"):
		return fmt.Errorf("the binding type '%s' is not registered", t.Type)
	}
	return nil
}

func (b *binding) route(name string) string {
	if b.Route != nil {
		return strings.Trim(*b.Route, "/")
	}
	return name
}

// retryPolicy is function.json's or host.json's "retry" (contract F4).
type retryPolicy struct {
	Strategy        string
	MaxRetryCount   int // -1: for ever
	DelayInterval   *timeSpan
	MinimumInterval *timeSpan
	MaximumInterval *timeSpan
}

// delay is the wait before retry n, counted from 1.
func (p *retryPolicy) delay(n int) time.Duration {
	if !strings.EqualFold(p.Strategy, "exponentialBackoff") {
		return p.DelayInterval.or(0)
	}
	low, high := p.MinimumInterval.or(time.Second), p.MaximumInterval.or(15*time.Minute)
	return min(high, low<<min(n-1, 20))
}
