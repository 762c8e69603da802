//go:build go1.26

package sim

import (
	"testing"
	"testing/cryptotest"
)

// seedRandom makes crypto/rand, from which a Source draws its nonces, repeat
// itself, so that one seed gives one run.
func seedRandom(t *testing.T, seed uint64) { cryptotest.SetGlobalRandom(t, seed) }
