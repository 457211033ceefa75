// Package epoch keeps the number of an agent's start. Whatever the agent says is ordered by it, so it must never go back: not
// when the clock is wrong, and not when the file is lost.
package epoch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/agent/lasting"
)

// file is the name in the state directory.
const file = "epoch"

// Next returns the epoch of this start, the greater of the last one + 1 and now in Unix milliseconds, and keeps it in dir before it
// returns. The epoch is valid in any case: an error says that it rests on the clock alone, because the last one could not be
// read or this one not be kept.
func Next(dir string, now time.Time) (uint64, error) {
	path := filepath.Join(dir, file)
	last, readErr := read(path)
	next := max(last+1, uint64(max(now.UnixMilli(), 0)))
	if err := lasting.Replace(path, []byte(strconv.FormatUint(next, 10)+"\n")); err != nil {
		return next, errors.Join(readErr, fmt.Errorf("keep the epoch: %w", err))
	}
	return next, readErr
}

// read returns the epoch of the last start, 0 at the first.
func read(path string) (uint64, error) {
	text, err := os.ReadFile(path) // the state directory of our own configuration
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the last epoch: %w", err)
	}
	last, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("read the last epoch: %s holds %.40q: want one number", path, text)
	}
	return last, nil
}
