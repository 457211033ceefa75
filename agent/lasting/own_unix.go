//go:build unix

package lasting

import (
	"fmt"
	"os"
	"syscall"
)

// own gives the file to the owner of the directory, if root writes it.
func own(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("whose is the directory: %w", err)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err = f.Chown(int(s.Uid), int(s.Gid)); err != nil {
		return fmt.Errorf("give it to the owner of %s: %w", dir, err)
	}
	return nil
}
