package eventgrid

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/pointsman/pointsman/emulator/internal/web"
)

// deliverTimeout is how long the service waits for a webhook's answer.
const deliverTimeout = 30 * time.Second

// maxTries bounds the deliveries of one event, as the service's default does.
const maxTries = 30

// delivery brings system events to the webhooks that subscribed.
type delivery struct {
	cfg    Config
	client *http.Client
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu    sync.Mutex
	hooks map[string]string // URL by name of the subscription
	shut  bool
	sent  int
}

func newDelivery(cfg Config) *delivery {
	d := &delivery{cfg: cfg, client: cfg.Client, hooks: map[string]string{}}
	if d.client == nil {
		d.client = &http.Client{Timeout: deliverTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Subscribe delivers system events from now on to a webhook, such as http://HOST/runtime/webhooks/EventGrid?functionName=F of a Functions host.
// A subscription of that name is replaced; events that it has not delivered yet go to the new address.
func (s *Server) Subscribe(name, url string) {
	s.delivery.mu.Lock()
	defer s.delivery.mu.Unlock()
	s.delivery.hooks[name] = url
}

// Unsubscribe ends a subscription; what it has not delivered is dropped.
func (s *Server) Unsubscribe(name string) {
	s.delivery.mu.Lock()
	defer s.delivery.mu.Unlock()
	delete(s.delivery.hooks, name)
}

// Emit delivers a system event, in Event Grid's schema or as a CloudEvent, to every subscription, and returns at once. A delivery that fails is
// repeated, so an event may come more than once and out of order.
func (s *Server) Emit(event json.RawMessage) {
	d := s.delivery
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		return
	}
	for name := range d.hooks {
		d.tasks.Go(func() { d.deliver(name, event) })
	}
}

// Delivered returns how many deliveries were taken.
func (s *Server) Delivered() int {
	s.delivery.mu.Lock()
	defer s.delivery.mu.Unlock()
	return s.delivery.sent
}

// deliver tries until the webhook takes the event, the subscription ends, or it was tried often enough.
func (d *delivery) deliver(name string, event json.RawMessage) {
	for n := 1; n <= maxTries; n++ {
		url, ok := d.hook(name)
		if !ok {
			return
		}
		err := d.post(url, event)
		if err == nil {
			d.mu.Lock()
			d.sent++
			d.mu.Unlock()
			return
		}
		d.cfg.Logger.WarnContext(d.ctx, "event not delivered", slog.String("subscription", name), slog.Int("try", n), slog.Any("error", err))
		if !web.Wait(d.ctx, d.wait(n), web.RealTime) {
			return
		}
	}
}

func (d *delivery) hook(name string) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	url, ok := d.hooks[name]
	return url, ok
}

// post sends one event. An event in Event Grid's schema comes in an array, a CloudEvent alone. 200 to 204 mean that it was taken.
func (d *delivery) post(url string, event json.RawMessage) error {
	var cloud struct {
		SpecVersion string `json:"specversion"`
	}
	body, contentType := append(append([]byte("["), event...), ']'), "application/json; charset=utf-8"
	if json.Unmarshal(event, &cloud) == nil && cloud.SpecVersion != "" {
		body, contentType = event, typeOne+"; charset=utf-8"
	}
	req, err := http.NewRequestWithContext(d.ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Aeg-Event-Type", "Notification")
	resp, err := d.client.Do(req)
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode < http.StatusOK || resp.StatusCode > http.StatusNoContent {
		return fmt.Errorf("deliver: %s", resp.Status)
	}
	return nil
}

// wait is the pause before the next try. Source: "Event Grid message delivery and retry", retry schedule.
func (d *delivery) wait(n int) time.Duration {
	if d.cfg.Retry != nil {
		return d.cfg.Retry(n)
	}
	schedule := []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour}
	return schedule[min(n, len(schedule))-1]
}

func (d *delivery) close() {
	d.mu.Lock()
	d.shut = true
	d.mu.Unlock()
	d.cancel()
	d.tasks.Wait()
}
