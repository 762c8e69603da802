package protocol

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A process that waits for another's fetch sees its end soon, by few reads.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		fetch, late time.Duration
		reads       int
	}{
		{time.Millisecond, 20 * time.Millisecond, 1},
		{25 * time.Millisecond, 6 * time.Millisecond, 2},
		{38 * time.Millisecond, 2 * time.Millisecond, 5},
		{50 * time.Millisecond, 3 * time.Millisecond, 13},
		{100 * time.Millisecond, 9 * time.Millisecond, 23},
		{200 * time.Millisecond, 20 * time.Millisecond, 31},
		{time.Second, 20 * time.Millisecond, 71},
		{15 * time.Second, 20 * time.Millisecond, 771},
		{5 * time.Minute, 400 * time.Millisecond, 3030},
	} {
		reads, watched := 0, time.Duration(0)
		for watched < c.fetch {
			pause := pace(watched)
			assert.Positive(t, pause, "%v", watched)
			watched += pause
			reads++
		}
		assert.LessOrEqual(t, watched-c.fetch, c.late, "%v", c.fetch)
		assert.LessOrEqual(t, reads, c.reads, "%v", c.fetch)
	}
}

func TestTheWatchAgeIsCapped(t *testing.T) {
	long := Rules{Local: 24 * time.Hour}
	assert.Equal(t, 5*time.Second, long.Watch())
}
