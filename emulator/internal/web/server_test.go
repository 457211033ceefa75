package web_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/emulator/internal/web"
	"github.com/pointsman/pointsman/emulator/localca"
)

func serve(t *testing.T, cfg web.Config, handle http.HandlerFunc) *web.Server {
	t.Helper()
	cfg.Name, cfg.Logger = "test emulator", slog.New(slog.DiscardHandler)
	s := &web.Server{}
	if err := s.Start(cfg, handle); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if failure := s.Close(); failure != nil {
			t.Error(failure)
		}
	})
	return s
}

func get(t *testing.T, client *http.Client, url string) (status int, body string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

func TestServerFromStartToClose(t *testing.T) {
	ca, err := localca.New()
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for prefix, cfg := range map[string]web.Config{
		"http://127.0.0.1:":                  {},
		"https://127.0.0.1:":                 {TLS: server},
		"http://" + listener.Addr().String(): {Listener: listener},
	} {
		s := serve(t, cfg, func(w http.ResponseWriter, r *http.Request) {
			web.Send(w, http.StatusTeapot, http.Header{"A": {"b"}}, []byte(r.Host))
		})
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}}
		status, host, failure := get(t, client, s.URL())
		if failure != nil || status != http.StatusTeapot || s.URLOf(host) != s.URL() || !strings.HasPrefix(s.URL(), prefix) {
			t.Errorf("%s: %d %s %v", s.URL(), status, host, failure)
		}
		if failure = s.Close(); failure != nil {
			t.Error(failure)
		}
		if _, _, failure = get(t, client, s.URL()); failure == nil {
			t.Errorf("%s answers after Close", s.URL())
		}
	}
}

func TestStartSaysWhoCannotListenWhere(t *testing.T) {
	err := (&web.Server{}).Start(web.Config{Name: "test emulator", Address: "203.0.113.1:1"}, http.NotFoundHandler())
	if err == nil || !strings.HasPrefix(err.Error(), "test emulator: ") || !strings.Contains(err.Error(), "203.0.113.1:1") {
		t.Error(err)
	}
}

// TestARequestMayComeBeforeStartReturns: as at a fixed address, where clients try again and again.
func TestARequestMayComeBeforeStartReturns(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	early, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = early.Close() }()
	if _, err = io.WriteString(early, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	var s web.Server
	if err = s.Start(web.Config{Name: "test emulator", Listener: listener, Logger: slog.New(slog.DiscardHandler)}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		web.Send(w, http.StatusOK, nil, []byte(s.URL()))
	})); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	answer, err := io.ReadAll(early)
	if want := "\r\n\r\nhttp://" + listener.Addr().String(); err != nil || !strings.HasSuffix(string(answer), want) {
		t.Errorf("%q, want %q at the end; %v", answer, want, err)
	}
}

func TestNoStatusIsNoAnswer(t *testing.T) {
	s := serve(t, web.Config{}, func(w http.ResponseWriter, _ *http.Request) { web.Send(w, 0, http.Header{"A": {"b"}}, []byte("x")) })
	if status, body, err := get(t, http.DefaultClient, s.URL()); !errors.Is(err, io.EOF) {
		t.Errorf("%d %q %v", status, body, err)
	}
}

// TestAClientThatHasGoneGetsNoAnswer: a handler that returns without a word has answered 200, which a client that hangs up can still read.
func TestAClientThatHasGoneGetsNoAnswer(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	r := request("GET", "/").WithContext(gone)
	for name, keep := range map[string]func(){
		"hold":  func() { web.Hold(r, time.Hour, web.RealTime) },
		"await": func() { web.Await(r, nil) },
	} {
		if p := panics(keep); p != http.ErrAbortHandler { //nolint:errorlint // net/http compares so
			t.Errorf("%s: %v", name, p)
		}
	}
}

func panics(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		web.Hold(request("GET", "/"), 3*time.Second, web.RealTime)
		web.Hold(request("GET", "/"), 0, nil)
		if passed := time.Since(start); passed != 3*time.Second {
			t.Errorf("held for %v", passed)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if !web.Wait(ctx, 0, nil) || web.Wait(ctx, time.Hour, web.RealTime) || web.Wait(ctx, 0, nil) {
			t.Error("waiting and the end of the context disagree")
		}
		if passed := time.Since(start); passed != 4*time.Second {
			t.Errorf("waited for %v", passed)
		}
	})
}

func TestAwaitLetsTheReadyThrough(t *testing.T) {
	ready := make(chan struct{})
	close(ready)
	web.Await(request("GET", "/"), ready)
}

func TestLogKeepsTheNewest(t *testing.T) {
	l := web.Log[int]{Max: 3}
	l.Add(1)
	l.Add(2, 3, 4, 5)
	all := l.All()
	l.Add(6)
	if want := []int{3, 4, 5}; !slices.Equal(all, want) {
		t.Errorf("%v, want %v", all, want)
	}
	if want := []int{4, 5, 6}; !slices.Equal(l.All(), want) {
		t.Errorf("%v, want %v", l.All(), want)
	}
	if l.Reset(); len(l.All()) != 0 {
		t.Errorf("%v after Reset", l.All())
	}
}

func TestSendLeavesTheHeadersOfOthers(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("X", "y")
	web.Send(w, http.StatusOK, nil, nil)
	if w.Code != http.StatusOK || w.Header().Get("X") != "y" || w.Body.Len() != 0 {
		t.Errorf("%+v", w)
	}
}

func TestProblems(t *testing.T) {
	var p web.Problems
	if err := p.Err("x"); err != nil {
		t.Error(err)
	}
	p.AtLeast(1, "A", 1)
	p.AtLeast(1, "B", 0)
	p.Refuse(true, "C", "c", "d")
	if err := p.Err("blob emulator: config"); err == nil || err.Error() != `blob emulator: config: B is 0: it must be 1 or more; C is "c": it must be d` {
		t.Error(err)
	}
}
