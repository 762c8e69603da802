//go:build !linux

package servers

import "os/exec"

// dieWithParent does nothing: only Linux has a signal for the parent's death.
func dieWithParent(*exec.Cmd) {}
