//go:build !linux

package netns

import (
	"fmt"
	"testing"
)

// Available returns an error wrapping [ErrUnavailable].
func Available() error { return fmt.Errorf("%w: this is not linux", ErrUnavailable) }

// Main runs the tests of a package.
func Main(m *testing.M) int { return m.Run() }

// Run runs a program.
func Run(run func() int) int { return run() }

// Create returns the error of [Available].
func Create(string) (*NS, error) { return nil, Available() }

// Do returns the error of [Available].
func (n *NS) Do(func() error) error { return Available() }
