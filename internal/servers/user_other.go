//go:build !unix

package servers

import "os/exec"

// notAsRoot does nothing: there is no root.
func notAsRoot(*exec.Cmd, string) error { return nil }
