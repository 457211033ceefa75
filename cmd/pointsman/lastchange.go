package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/azure/blob"
)

// change is the last write that changed a prefix, from the history.
type change struct {
	At          time.Time `json:"at"`
	From        string    `json:"from,omitempty"`
	To          string    `json:"to,omitempty"`
	Cause       string    `json:"cause"`
	Events      []string  `json:"events,omitempty"` // behind the write
	By          []string  `json:"by,omitempty"`     // that say of the prefix what was written
	Observed    time.Time `json:"observed,omitzero"`
	Convergence float64   `json:"convergenceSeconds,omitempty"`
	ApprovedBy  string    `json:"approvedBy,omitempty"`
	Run         string    `json:"run"`
}

// lastChanges returns the last change of each prefix of a target; those that the history does not have are missing. It reads the history backwards, no
// further than it must.
func lastChanges(ctx context.Context, store *blob.Store, domain, target string, prefixes []string) (map[string]change, error) {
	files, err := historyFiles(ctx, store, domain, target, time.Time{})
	if err != nil {
		return nil, err
	}
	wanted, out := map[string]bool{}, map[string]change{}
	for _, p := range prefixes {
		wanted[p] = true
	}
	for _, file := range slices.Backward(files) {
		if len(wanted) == 0 {
			break
		}
		data, _, failed := store.Read(ctx, file, "")
		if failed != nil {
			return nil, stateTrouble(ctx, failed)
		}
		if failed = newest(data, wanted, out); failed != nil {
			return nil, fmt.Errorf("%s: %w", file, failed)
		}
	}
	return out, nil
}

// newest takes the wanted prefixes that the lines of a file have, from the last line on.
func newest(data []byte, wanted map[string]bool, out map[string]change) error {
	lines := slices.Collect(bytes.Lines(data))
	for n, line := range slices.Backward(lines) {
		var x written
		if err := json.Unmarshal(line, &x); err != nil {
			return fmt.Errorf("line %d: %w", n+1, err)
		}
		for _, m := range slices.Concat(x.Adds, x.Moves, x.Removals) {
			if !wanted[m.Prefix] {
				continue
			}
			delete(wanted, m.Prefix)
			c := change{
				At: x.At, From: m.From, To: m.To, Cause: x.Cause, Events: x.Events, By: m.By, Observed: x.Observed, Convergence: x.Convergence, Run: x.Run,
			}
			if x.Approved != nil {
				c.ApprovedBy = x.Approved.Who
			}
			out[m.Prefix] = c
		}
	}
	return nil
}

// String returns the change as explain prints it.
func (c *change) String() string {
	if c == nil {
		return "not in the history: nothing was written for it, or longer ago than the history is kept"
	}
	did := "added to " + c.To
	switch {
	case c.To == "":
		did = "removed from " + c.From
	case c.From != "":
		did = "moved " + c.From + " -> " + c.To
	}
	text := stamp(c.At) + ", " + did
	if len(c.Events) > 0 {
		text += ", because of " + strings.Join(c.Events, ", ")
	} else {
		text += ", by " + c.Cause
	}
	if len(c.By) > 0 {
		text += "; said in " + strings.Join(c.By, ", ")
	}
	if c.ApprovedBy != "" {
		text += "; approved by " + c.ApprovedBy
	}
	if !c.Observed.IsZero() {
		text += fmt.Sprintf("; %.1f s after the NVA saw it", c.Convergence)
	}
	return text
}
