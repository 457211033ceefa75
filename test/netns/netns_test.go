package netns_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPairCarriesPackets(t *testing.T) {
	a, b := netns.New(t), netns.New(t)
	must(t, netns.Pair(a, b, "left", "right"))
	must(t, a.Batch("addr add 192.0.2.1/24 dev left", "addr add 2001:db8::1/64 dev left nodad"))
	must(t, b.Batch("addr add 192.0.2.2/24 dev right", "addr add 2001:db8::2/64 dev right nodad"))
	for _, host := range []string{"192.0.2.2", "2001:db8::2"} {
		var l net.Listener
		must(t, b.Do(func() (err error) {
			l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
			return err
		}))
		must(t, a.Do(func() error {
			c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
			if err != nil {
				return err
			}
			return c.Close()
		}))
		must(t, l.Close())
	}
}

func TestNamespacesAreApart(t *testing.T) {
	a, b := netns.New(t), netns.New(t)
	if a.Name == b.Name {
		t.Errorf("both are named %s", a.Name)
	}
	must(t, a.Batch("link add one type veth peer name two"))
	if out, err := b.Run("ip", "link", "show", "one"); err == nil {
		t.Errorf("link of %s seen in %s: %s", a.Name, b.Name, out)
	}
	if _, err := net.InterfaceByName("two"); err == nil {
		t.Error("link of the namespace seen outside")
	}
	must(t, a.Sysctl("net.ipv4.ip_forward", "1"))
	out, err := b.Run("cat", "/proc/sys/net/ipv4/ip_forward")
	must(t, err)
	if strings.TrimSpace(out) != "0" {
		t.Errorf("ip_forward of the other namespace is %s", out)
	}
}

func TestErrorsSayWhatFailed(t *testing.T) {
	ns := netns.New(t)
	err := ns.Batch("link set nosuchlink up")
	if err == nil || !strings.Contains(err.Error(), "nosuchlink") || !strings.Contains(err.Error(), ns.Name) {
		t.Errorf("got %v; want the link and the namespace named", err)
	}
	if err = ns.Sysctl("net.ipv4.nosuch", "1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
	wrong := errors.New("wrong")
	if err = ns.Do(func() error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("Do returns %v, want %v", err, wrong)
	}
}

func TestCloseRemovesTheNamespace(t *testing.T) {
	if err := netns.Available(); err != nil {
		t.Skipf("this test needs network namespaces: %v", err)
	}
	keep := netns.New(t)
	gone, err := netns.Create("gone")
	must(t, err)
	must(t, netns.Pair(keep, gone, "stays", "goes"))
	must(t, gone.Close())
	// The peer of a veth goes with it; the kernel's clean-up of namespaces runs on its own, so look until it has.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		if _, err = keep.Run("ip", "link", "show", "stays"); err != nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal("the link into the closed namespace is still there")
		}
	}
}

func TestWay(t *testing.T) {
	listen := func() net.Listener {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	echo := listen()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	w := netns.NewWay(listen(), echo.Addr().String())
	dial := func() net.Conn {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", w.Addr())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	carries := func(c net.Conn) bool {
		if _, err := c.Write([]byte{7}); err != nil {
			return false
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err == nil
	}
	before := dial()
	if !carries(before) {
		t.Error("does not carry")
	}
	w.Cut("one", true)
	if carries(before) {
		t.Error("an old connection carries over a cut way")
	}
	if carries(dial()) {
		t.Error("a new connection carries over a cut way")
	}
	w.Cut("two", true)
	w.Cut("one", false)
	if carries(dial()) {
		t.Error("carries although one of two reasons is left")
	}
	w.Cut("two", false)
	if !carries(dial()) {
		t.Error("does not carry after it was mended")
	}
	if err := errors.Join(w.Close(), echo.Close()); err != nil {
		t.Error(err)
	}
}
