//go:build !race

package sim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A platform that answers nobody costs few fetches, also where processes of several
// members end in the middle of theirs: each that dies is one more that has failed.
func TestCronJobsInABlackHole(t *testing.T) {
	c := Config{Seed: 1, New: newReal, Length: 5 * time.Hour, Members: []Member{{N: 20, Every: sec(5)}}}
	c.Grace, c.Faults.Outage, c.Faults.OutageIs = Lenient, Window{30 * time.Minute, 4 * time.Hour}, Ailment{Silent: true, Lands: true}
	for range 3 {
		c.Members = append(c.Members, Member{Patience: sec(5), Lives: &Lives{Every: [2]time.Duration{sec(8), sec(12)}, Exit: Returns}})
	}
	r := play(t, c)
	assert.LessOrEqual(t, r.Asked, 60)
	assert.Less(t, r.LongestWithout, 11*time.Minute)
}
