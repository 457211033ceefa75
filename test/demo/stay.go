package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/pointsman/pointsman/test/system"
)

// stay prints how to look around and goes on telling what happens until ctx is done.
func (d *demo) stay(ctx context.Context) {
	table, end, err := d.serveTable(ctx)
	if err != nil {
		d.out.note("the route table is not served: %v", err)
		return
	}
	defer end()
	d.out.title("Everything keeps running until Ctrl-C; what happens is shown below.")
	show := func(what string, lines ...string) {
		d.out.say("  %s", what)
		for _, l := range lines {
			d.out.say("      %s", d.out.paint(cyan, l))
		}
	}
	show("what Pointsman knows, and the same for Prometheus", "curl -s "+d.sys.Host.URL()+"/api/status", "curl -s '"+d.sys.Host.URL()+"/api/status?format=prometheus'")
	show("the route table", "curl -s "+table)
	for _, n := range []struct {
		name, short string
		nva         nva
	}{{nameA, "a", d.a}, {nameB, "b", d.b}} {
		if lines := n.nva.explore(n.short); lines != nil {
			show(n.name+": its routes; one goes; it comes back; what the agent sees; the agent dies; and starts again", lines...)
		}
	}
	show("files: the agents' configurations and logs", "ls -R "+d.dir)
	d.out.say("")
	<-ctx.Done()
}

// serveTable serves the table as text for people, on loopback.
func (d *demo) serveTable(ctx context.Context) (url string, end func(), err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		raw, _, _ := d.sys.ARM.Table(system.TableID)
		if t, failed := readTable(raw); failed != nil {
			http.Error(w, failed.Error(), http.StatusInternalServerError)
		} else {
			t.print(w)
		}
	})}
	go func() { _ = server.Serve(l) }()
	return "http://" + l.Addr().String(), func() { _ = server.Close() }, nil
}
