package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// What is kept of a program's output, in bytes, and what is shown of it; and how long its children may keep the output open after its end.
const (
	longestOutput = 4 << 10
	longestLine   = 200
	outputWait    = time.Second
)

// environment is all that a program gets of the agent's: the rest may hold the key to the bus.
func environment() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
}

// execute runs a program and returns nil if it exits with 0. The error says how it ended, and the first line that it wrote: to its standard error, or
// else to its standard output. Whatever it started goes with it when time is up.
func execute(ctx context.Context, command []string, timeout time.Duration) error {
	var stdout, stderr limited
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) // the operator names it
	cmd.Env, cmd.Dir = environment(), "/"
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = outputWait
	ownGroup(cmd)
	err := cmd.Run()
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay): // it exited with 0; a child of it holds on to the output
		return nil
	case ctx.Err() != nil:
		err = fmt.Errorf("not done after %s", timeout)
	}
	if line := firstLine(&stderr, &stdout); line != "" {
		return fmt.Errorf("%w: %s", err, line)
	}
	return err
}

// firstLine returns the first line that says anything.
func firstLine(outputs ...*limited) string {
	for _, o := range outputs {
		for line := range strings.Lines(o.text.String()) {
			if line = strings.TrimSpace(strings.ToValidUTF8(line, "?")); line != "" {
				return line[:min(len(line), longestLine)]
			}
		}
	}
	return ""
}

// limited keeps the beginning of what is written to it, and takes all.
type limited struct{ text bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	if room := longestOutput - l.text.Len(); room > 0 {
		_, _ = l.text.Write(b[:min(len(b), room)])
	}
	return len(b), nil
}
