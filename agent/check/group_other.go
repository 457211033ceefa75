//go:build !linux

package check

import "os/exec"

func ownGroup(*exec.Cmd) {}
