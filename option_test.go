package wxtoken

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestDurationsOfZeroAndLessAreTheDefault(t *testing.T) {
	for _, d := range []time.Duration{0, -1} {
		o := newOptions([]Option{
			WithFetchTimeout(time.Minute), WithRefreshAhead(time.Minute), WithLocalAge(time.Minute),
			WithFetchTimeout(d), WithRefreshAhead(d), WithLocalAge(d),
		})
		assert.Equal(t, newOptions(nil), o)
	}
	o := newOptions([]Option{WithFetchTimeout(1), WithRefreshAhead(2), WithLocalAge(3)})
	assert.Equal(t, options{prefix: "wxtoken:", fetchTimeout: 1, refreshAhead: 2, localAge: 3}, o)
	assert.Equal(t, []time.Duration{10 * time.Second, 5 * time.Minute, 45 * time.Second},
		[]time.Duration{newOptions(nil).fetchTimeout, newOptions(nil).refreshAhead, newOptions(nil).localAge})
}
