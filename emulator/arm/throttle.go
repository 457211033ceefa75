package arm

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Limits are the quotas of "Understand how Azure Resource Manager throttles requests"; a zero field means the documented value.
type Limits struct {
	// Reads, Writes and Deletes are ARM's token buckets for each subscription and principal: 250 at 25/s, 200 at 10/s, 200 at 10/s.
	Reads, Writes, Deletes Bucket
	// GlobalFactor times a bucket is what all principals of a subscription have together; 0 means 15.
	GlobalFactor int
	// Window is the period of the network provider's own quota for each subscription and region; 0 means 5 minutes.
	Window time.Duration
	// WindowWrites and WindowReads are how many writes and deletes, and how many reads, a window admits; 0 means 1,000 and 10,000.
	WindowWrites, WindowReads int
}

// Bucket is a token bucket.
type Bucket struct {
	// Burst is how many tokens it holds.
	Burst int
	// PerSecond is how many come back in a second.
	PerSecond int
}

// quota counts the use of Limits.
type quota struct {
	limits  Limits
	levels  map[string]level
	windows map[string]window
}

type level struct {
	tokens float64
	at     time.Time
}

type window struct {
	start time.Time
	used  int
}

func newQuota(limits Limits) *quota {
	limits.Reads = cmp.Or(limits.Reads, Bucket{250, 25})
	limits.Writes = cmp.Or(limits.Writes, Bucket{200, 10})
	limits.Deletes = cmp.Or(limits.Deletes, Bucket{200, 10})
	limits.GlobalFactor = cmp.Or(limits.GlobalFactor, 15)
	limits.Window = cmp.Or(limits.Window, 5*time.Minute)
	limits.WindowWrites = cmp.Or(limits.WindowWrites, 1000)
	limits.WindowReads = cmp.Or(limits.WindowReads, 10_000)
	return &quota{limits: limits, levels: map[string]level{}, windows: map[string]window{}}
}

// throttle takes one request from the quotas and returns the headers that say what is left. Polls count as reads.
func (s *Server) throttle(r *request) (http.Header, *failure) {
	now, subscription := s.cfg.Now(), strings.ToLower(r.id.subscription())
	class, bucket := s.quota.class(r.method)
	all := Bucket{bucket.Burst * s.quota.limits.GlobalFactor, bucket.PerSecond * s.quota.limits.GlobalFactor}
	header := http.Header{}
	if !s.cfg.Buckets {
		setRemaining(header, class, float64(bucket.Burst-1), float64(all.Burst-1))
		return header, nil
	}
	ownKey, allKey := fmt.Sprint(subscription, " ", r.principal, " ", class), fmt.Sprint(subscription, " ", class)
	own, ownWait := s.quota.take(ownKey, bucket, now)
	global, allWait := s.quota.take(allKey, all, now)
	setRemaining(header, class, own, global)
	if wait := max(ownWait, allWait); wait > 0 {
		return header, throttled(r.id.subscription(), r.principal, class, wait)
	}
	if !strings.EqualFold(r.id.after("providers"), "Microsoft.Network") {
		return header, nil
	}
	region := s.region(r.id)
	if wait := s.quota.admit(fmt.Sprint(subscription, " ", region), class, now); wait > 0 {
		return header, windowFull(r.id.subscription(), region, wait)
	}
	return header, nil
}

// class returns the name of the bucket that a method draws from, in the singular of ARM's messages.
func (q *quota) class(method string) (string, Bucket) {
	switch method {
	case http.MethodGet, http.MethodHead:
		return "read", q.limits.Reads
	case http.MethodDelete:
		return "delete", q.limits.Deletes
	}
	return "write", q.limits.Writes
}

// take draws a token and returns what is left, or how long until there is one.
func (q *quota) take(key string, b Bucket, now time.Time) (left float64, wait time.Duration) {
	l, ok := q.levels[key]
	if !ok {
		l = level{float64(b.Burst), now}
	}
	l.tokens = min(float64(b.Burst), l.tokens+now.Sub(l.at).Seconds()*float64(b.PerSecond))
	l.at = now
	if l.tokens < 1 {
		wait = max(1, time.Duration((1-l.tokens)/float64(b.PerSecond)*float64(time.Second)))
	} else {
		l.tokens--
	}
	q.levels[key] = l
	return l.tokens, wait
}

// admit counts a request of the network provider's window and returns how long until the next window if this one is full. A window
// begins with the first request after the previous one has ended.
func (q *quota) admit(key, class string, now time.Time) time.Duration {
	limit := q.limits.WindowWrites
	if class == "read" {
		limit = q.limits.WindowReads
		key += " read"
	}
	w, ok := q.windows[key]
	if !ok || now.Sub(w.start) >= q.limits.Window {
		w = window{start: now}
	}
	if w.used >= limit {
		return w.start.Add(q.limits.Window).Sub(now)
	}
	w.used++
	q.windows[key] = w
	return 0
}

// region returns where the resource is: an operation's location, a table's, or its resource group's.
func (s *Server) region(id resourceID) string {
	if location := id.after("locations"); location != "" {
		return normalLocation(location)
	}
	if len(id) >= 8 {
		if t := s.tables[id[:8].key()]; t != nil {
			return t.location
		}
		if h := s.hubs[id[:8].key()]; h != nil {
			return h.location
		}
	}
	return s.groups[id.groupKey()].location
}

func setRemaining(header http.Header, class string, own, global float64) {
	header.Set("X-Ms-Ratelimit-Remaining-Subscription-"+class+"s", strconv.Itoa(int(own)))
	header.Set("X-Ms-Ratelimit-Remaining-Subscription-Global-"+class+"s", strconv.Itoa(int(global)))
}
