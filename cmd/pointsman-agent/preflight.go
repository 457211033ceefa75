package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/agent/config"
	around "github.com/pointsman/pointsman/agent/preflight"
	"github.com/pointsman/pointsman/shared/preflight"
)

// amqps is the port of Service Bus. Source: Azure Service Bus, AMQP 1.0 protocol guide.
const amqps = "5671"

var (
	// errFindings: preflight found what does not work, and has printed it.
	errFindings = errors.New("something does not work")
	// errLook: preflight found what may not work on a bad day, or could not be checked.
	errLook = errors.New("something is to be looked at")
)

// lookAround checks that this machine lets the agent and the NVA do their work.
func lookAround(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("pointsman-agent preflight", flag.ContinueOnError)
	file := f.String("config", configFile, "the configuration `file`")
	output := f.String("output", "table", "`table` or json")
	timeout := f.Duration("timeout", 10*time.Second, "how long Service Bus may take")
	if err := parseSubcommand(f, args, stderr); err != nil {
		return err
	}
	if *output != "table" && *output != "json" {
		_, _ = fmt.Fprintf(stderr, "%s: --output is %q: want table or json\n", f.Name(), *output)
		return errUsage
	}
	cfg, err := load(*file, stderr)
	if err != nil {
		return err
	}
	name, port, err := busAddress(cfg.Bus)
	if err != nil {
		return err
	}
	findings := around.Look(ctx, around.Config{
		Kernel: slices.ContainsFunc(cfg.Sources, func(s config.Source) bool { return s.Kernel != nil }), Host: name, Port: port, Timeout: *timeout,
		Resolver: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
	})
	if err = printAround(stdout, *output, findings); err != nil {
		return err
	}
	switch preflight.ExitCode(findings) {
	case preflight.ExitError:
		return errFindings
	case preflight.ExitLook:
		return errLook
	}
	return nil
}

func printAround(w io.Writer, output string, findings []preflight.Finding) error {
	text := preflight.Text(findings)
	if output == "json" {
		body, err := json.MarshalIndent(findings, "", "  ")
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
		text = string(body) + "\n"
	}
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// busAddress returns where the bus is.
func busAddress(b config.Bus) (host, port string, err error) {
	if b.Namespace != "" {
		return b.Namespace, amqps, nil
	}
	connection, err := connectionString(b)
	if err != nil {
		return "", "", fmt.Errorf("bus: %w", err)
	}
	for part := range strings.SplitSeq(connection, ";") {
		endpoint, ok := strings.CutPrefix(strings.TrimSpace(part), "Endpoint=")
		u, bad := url.Parse(endpoint)
		if ok && bad == nil && u.Hostname() != "" {
			if port = u.Port(); port == "" {
				port = amqps
			}
			return u.Hostname(), port, nil
		}
	}
	return "", "", errors.New("bus: the connection string has no Endpoint=sb://HOST/") // and is never repeated
}
