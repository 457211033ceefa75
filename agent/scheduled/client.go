package scheduled

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// DefaultURL is the instance metadata service of an Azure VM. It is never reached by a proxy.
const DefaultURL = "http://169.254.169.254"

const (
	eventsPath = "/metadata/scheduledevents?api-version=2020-07-01"
	namePath   = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"

	longestAnswer = 1 << 20
)

// client speaks to the service.
type client struct {
	url  string
	http *http.Client
}

func newClient(url string) *client {
	transport := &http.Transport{MaxIdleConns: 1, IdleConnTimeout: time.Minute} // no proxy: the service refuses what came through one
	return &client{url: strings.TrimSuffix(url, "/"), http: &http.Client{Transport: transport}}
}

// do makes a request and returns the body of the answer and its Date; zero: it has none.
func (c *client) do(ctx context.Context, method, path string, body []byte) (answer []byte, date time.Time, err error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("metadata service: %w", err)
	}
	r.Header.Set("Metadata", "true")
	if len(body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("metadata service: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err = io.ReadAll(io.LimitReader(response.Body, longestAnswer))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("metadata service: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, time.Time{}, fmt.Errorf("metadata service: %s %s: %s: %.200s", method, path, response.Status, bytes.TrimSpace(answer))
	}
	date, _ = http.ParseTime(response.Header.Get("Date"))
	return answer, date, nil
}

// name returns what Azure calls this VM in the resources of events.
func (c *client) name(ctx context.Context) (string, error) {
	answer, _, err := c.do(ctx, http.MethodGet, namePath, nil)
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(answer))
	if name == "" {
		return "", fmt.Errorf("metadata service: this VM has no name")
	}
	return name, nil
}

// events returns what Azure announces, and when it said so by its own clock.
func (c *client) events(ctx context.Context) (events []Event, at time.Time, err error) {
	answer, at, err := c.do(ctx, http.MethodGet, eventsPath, nil)
	if err != nil {
		return nil, time.Time{}, err
	}
	var document struct {
		Events []struct {
			EventID     string `json:"EventId"`
			EventStatus string
			EventType   string
			Resources   []string
			NotBefore   string
		}
	}
	if err = json.Unmarshal(answer, &document); err != nil {
		return nil, time.Time{}, fmt.Errorf("metadata service: events: %w", err)
	}
	for _, e := range document.Events {
		out := Event{ID: e.EventID, Type: e.EventType, Resources: e.Resources, Started: e.EventStatus == "Started"}
		if e.NotBefore != "" {
			if out.NotBefore, err = http.ParseTime(e.NotBefore); err != nil {
				return nil, time.Time{}, fmt.Errorf("metadata service: event %s: NotBefore: %w", e.EventID, err)
			}
		}
		events = append(events, out)
	}
	return events, at, nil
}

// approve tells Azure that an event may start now.
func (c *client) approve(ctx context.Context, id string) error {
	type request struct {
		EventID string `json:"EventId"`
	}
	body, err := json.Marshal(struct{ StartRequests []request }{[]request{{id}}})
	if err != nil {
		return fmt.Errorf("metadata service: %w", err)
	}
	_, _, err = c.do(ctx, http.MethodPost, eventsPath, body)
	return err
}
