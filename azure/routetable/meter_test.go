package routetable_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/azure/routetable"
)

// What the service says of the writes that are left is known as soon as it has answered, also to a refused write, for the subscription in question alone.
func TestWritesLeft(t *testing.T) {
	const subscription = "11111111-1111-1111-1111-111111111111"
	left := func(n, reads string) http.Header {
		return http.Header{
			"X-Ms-Ratelimit-Remaining-Subscription-Writes": {n}, "X-Ms-Ratelimit-Remaining-Subscription-Global-Writes": {"11999"},
			"X-Ms-Ratelimit-Remaining-Subscription-Reads": {reads},
		}
	}
	said := accepted()
	maps.Copy(said.header, left("150", "7"))
	s := newServer(t, answer{status: 200, body: full}, said, answer{status: 200, body: `{"status":"Succeeded"}`}, answer{status: 429, body: `{}`, header: left("0", "6")})
	now := time.Unix(100, 0)
	c := s.client(t, func(cfg *routetable.Config) { cfg.Now = func() time.Time { return now } })
	if _, _, known := c.Writes(subscription); known {
		t.Error("known before anything was said")
	}
	table := read(t, c)
	for _, want := range []int{150, 0} {
		now = now.Add(time.Second)
		if err := c.Put(t.Context(), table, edit()); (err != nil) != (want == 0) {
			t.Fatal(err)
		}
		if got, at, known := c.Writes(strings.ToUpper(subscription)); got != want || !at.Equal(now) || !known {
			t.Errorf("%d left at %v (known %t), want %d at %v", got, at, known, want, now)
		}
	}
	if _, _, known := c.Writes("other"); known {
		t.Error("another subscription's figure is taken")
	}
}
