//go:build !go1.26

package sim

import "testing"

// seedRandom does nothing: before Go 1.26 crypto/rand cannot be made to repeat
// itself, and a seed gives runs that are only alike.
func seedRandom(*testing.T, uint64) {}
