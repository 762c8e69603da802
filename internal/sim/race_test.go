//go:build race

package sim

import "time"

// rare is how often something is called under the race detector, which makes a
// simulation some twenty times slower and sees as much in a sixth of the calls.
// `make test` plays everything in full without it.
func rare(period time.Duration) time.Duration { return 6 * period }

// few returns the first and the last of the cases: the others run the same code
// with other numbers.
func few[T any](cases []T) []T {
	return append(cases[:1:1], cases[max(len(cases)-1, 1):]...)
}

const day = 4 * time.Hour // what is played of one here
