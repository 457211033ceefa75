//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pointsman/pointsman/test/system"
)

// people are others who write the same tables: they set and delete single routes, with names and prefixes of their own and now and then
// one that an NVA announces too, and they change tags.
type people struct {
	sys   *system.System
	watch *watch
	log   *journal
	rand  *rand.Rand
	token string
}

// The pace of people, and how long one tries.
const (
	peoplePace     = 1500 * time.Millisecond
	peoplePatience = 5 * time.Second
	armVersion     = "?api-version=2025-09-01"
)

// work edits until ctx is done; an edit that has begun is finished.
func (p *people) work(ctx context.Context) {
	for {
		timer := time.NewTimer(peoplePace/2 + time.Duration(p.rand.Int64N(int64(peoplePace))))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			p.edit(context.WithoutCancel(ctx))
		}
	}
}

func (p *people) edit(ctx context.Context) {
	all := targets()
	t := all[p.rand.IntN(len(all))]
	n := p.rand.IntN(6)
	route := map[string]any{"properties": map[string]any{
		"addressPrefix": fmt.Sprintf("10.51.%d.0/24", n), "nextHopType": "VirtualAppliance", "nextHopIpAddress": fmt.Sprintf("10.9.9.%d", 1+p.rand.IntN(200)),
	}}
	name := fmt.Sprintf("other-%d", n)
	switch what := p.rand.IntN(10); {
	case what < 5:
		p.send(ctx, t, "route "+name, http.MethodPut, t.id+"/routes/"+name, route)
	case what < 7:
		p.send(ctx, t, "route "+name, http.MethodDelete, t.id+"/routes/"+name, nil)
	case what < 8: // a prefix that NVAs announce: refused while the table has it as ours
		contested := map[string]any{"properties": map[string]any{"addressPrefix": pool()[len(pool())-1].String(), "nextHopType": "None"}}
		p.send(ctx, t, "route contested", http.MethodPut, t.id+"/routes/contested", contested)
	case what < 9:
		p.send(ctx, t, "route contested", http.MethodDelete, t.id+"/routes/contested", nil)
	default:
		p.send(ctx, t, "tags", http.MethodPatch, t.id, map[string]any{"tags": map[string]string{"owner": "netops", "change": fmt.Sprint(p.rand.IntN(1000))}})
	}
}

// send makes one change, tries again while it is refused because the table is busy, and waits until it is in force. The change may show
// until then, and not after.
func (p *people) send(ctx context.Context, t target, key, method, path string, body any) {
	ctx, cancel := context.WithTimeout(ctx, peoplePatience)
	defer cancel()
	p.watch.editing(t.id, key, 1)
	defer p.watch.editing(t.id, key, -1)
	status := 0
	err := until(ctx, 100*time.Millisecond, func() (err error) {
		if status, err = p.call(ctx, method, path, body); err == nil && (status == http.StatusTooManyRequests || status >= 500 || status == http.StatusUnauthorized) {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	p.log.fault("edits by others", fmt.Sprintf("%s %s of %s: %d %v", method, key, t.name, status, err))
	settled, end := context.WithTimeout(context.WithoutCancel(ctx), 2*peoplePatience)
	defer end()
	_ = until(settled, 50*time.Millisecond, func() error {
		raw, _, _ := p.sys.ARM.Table(t.id)
		c, failed := read(raw)
		if failed == nil && (c.state == "Updating" || c.state == "Deleting") {
			failed = fmt.Errorf("table %s is %s", t.name, c.state)
		}
		return failed
	})
}

func (p *people) call(ctx context.Context, method, path string, body any) (status int, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, fmt.Errorf("encode: %w", err)
	}
	if body == nil {
		text = nil
	}
	if p.token == "" {
		t, failed := p.sys.Credential().GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://management.azure.com/.default"}})
		if failed != nil {
			return 0, fmt.Errorf("token: %w", failed)
		}
		p.token = t.Token
	}
	req, err := http.NewRequestWithContext(ctx, method, p.sys.ARM.URL()+path+armVersion, bytes.NewReader(text))
	if err != nil {
		return 0, fmt.Errorf("request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.sys.Client().Do(req)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode == http.StatusUnauthorized {
		p.token = ""
	}
	return resp.StatusCode, nil
}
