// Package lasting writes small files that must not be lost or half written: write aside, fsync, put in place in one step, fsync the directory.
//
// They are readable by their owner only, and belong to whoever owns the directory: what root makes by hand the service can read.
package lasting

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Replace writes the file, over one that is there.
func Replace(path string, data []byte) error {
	return write(path, data, os.Rename)
}

// Create writes the file if there is none; if there is one the error is fs.ErrExist.
func Create(path string, data []byte) error {
	return write(path, data, func(aside, path string) error {
		if err := os.Link(aside, path); err != nil {
			return err //nolint:wrapcheck // write says what it was about
		}
		return os.Remove(aside)
	})
}

func write(path string, data []byte, place func(aside, path string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, own(f, dir), f.Sync(), f.Close())
	if err == nil {
		err = place(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return sync(dir)
}

func sync(dir string) error {
	d, err := os.Open(dir) // of the file that is written
	if err != nil {
		return fmt.Errorf("write to %s: %w", dir, err)
	}
	if err = errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("write to %s: %w", dir, err)
	}
	return nil
}
