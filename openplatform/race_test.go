//go:build race

package openplatform_test

// seeds and every say how much is simulated under the race detector, which makes
// it some ten times slower and sees as much in fewer runs. `make test` simulates
// everything in full without it.
const (
	seeds = 1
	every = 2 // minutes from one round of calls to the next
)
