package gobgp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
)

// feeder is a gobgp server as it comes, in a process of its own: two servers in one process race for gobgp's global variables.
type feeder struct {
	AS         uint32
	Local      string
	Port       uint16 // to listen on; 0: it opens the session
	RemotePort uint16
}

const (
	feederVariable = "POINTSMAN_TEST_FEEDER"
	feederPassword = "not to be guessed"
)

// feederProcess is a running feeder.
type feederProcess struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

func startFeeder(t *testing.T, f feeder) *feederProcess {
	t.Helper()
	spec, err := json.Marshal(f)
	must(t, err)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), feederVariable+"="+string(spec))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &feederProcess{t: t, in: in, out: bufio.NewScanner(out)}
}

// say has the feeder carry out a command, and returns its answer.
func (p *feederProcess) say(command string) string {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		p.t.Fatal(err)
	}
	if !p.out.Scan() {
		p.t.Fatalf("the feeder has died: %v", p.out.Err())
	}
	return p.out.Text()
}

// feed is the main program of a feeder. It ends with its input.
func feed(spec string) {
	var f feeder
	check(json.Unmarshal([]byte(spec), &f))
	ctx := context.Background()
	srv := server.NewBgpServer()
	go srv.Serve()
	global := &api.Global{Asn: f.AS, RouterId: f.Local, ListenPort: -1, Families: []uint32{0, 1}}
	if f.Port > 0 {
		global.ListenPort, global.ListenAddresses = int32(f.Port), []string{f.Local}
	}
	check(srv.StartBgp(ctx, &api.StartBgpRequest{Global: global}))
	check(srv.AddPeer(ctx, &api.AddPeerRequest{Peer: &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: "127.0.0.2", PeerAsn: 65001, AuthPassword: feederPassword},
		Transport: &api.Transport{LocalAddress: f.Local, RemotePort: uint32(f.RemotePort), PassiveMode: f.Port > 0},
		Timers:    &api.Timers{Config: &api.TimersConfig{ConnectRetry: 1, HoldTime: 90}},
	}}))
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		command, argument, _ := strings.Cut(in.Text(), " ")
		switch command {
		case "announce":
			announce(srv, netip.MustParsePrefix(argument))
		case "withdraw":
			check(srv.DeletePath(apiutil.DeletePathRequest{DeleteAll: true}))
		case "learned":
			argument = fmt.Sprint(learned(srv))
		}
		_, err := fmt.Fprintln(os.Stdout, strings.TrimSpace(command+" "+argument))
		check(err)
	}
}

func announce(srv *server.BgpServer, p netip.Prefix) {
	nlri, err := bgp.NewIPAddrPrefix(p)
	check(err)
	hop, err := bgp.NewPathAttributeNextHop(netip.IPv4Unspecified()) // itself
	check(err)
	answers, err := srv.AddPath(apiutil.AddPathRequest{Paths: []*apiutil.Path{{
		Family: bgp.RF_IPv4_UC, Nlri: nlri, Attrs: []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(0), hop},
	}}})
	check(err)
	for _, r := range answers {
		check(r.Error)
	}
}

// learned returns how many routes the agent has announced.
func learned(srv *server.BgpServer) (n int) {
	check(srv.ListPath(apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_ADJ_IN, Name: "127.0.0.2", Family: bgp.RF_IPv4_UC},
		func(bgp.NLRI, []*apiutil.Path) { n++ }))
	return n
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
