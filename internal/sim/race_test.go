//go:build race

package sim

import "time"

// rare is how often something is called under the race detector, which makes a
// simulation some twenty times slower and sees as much in a sixth of the calls.
// `make test` plays everything in full without it.
func rare(period time.Duration) time.Duration { return 6 * period }

const day = 6 * time.Hour // what is played of one here
