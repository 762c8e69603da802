package wxtoken

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMemoryCacheExpiresExactlyAtTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemoryCache()
		swap := func(old, new []byte, ttl time.Duration) bool {
			stored, err := m.CompareAndSwap(t.Context(), "key", old, new, ttl)
			require.NoError(t, err)
			return stored
		}
		one, two := []byte("one"), []byte("two")
		require.True(t, swap(nil, one, time.Hour))

		time.Sleep(time.Hour - 1)
		got, err := m.Get(t.Context(), "key")
		require.NoError(t, err)
		assert.Equal(t, one, got)
		assert.False(t, swap(nil, two, time.Hour), "still there")

		time.Sleep(time.Nanosecond)
		_, err = m.Get(t.Context(), "key")
		assert.ErrorIs(t, err, ErrCacheMiss)
		assert.False(t, swap(one, two, time.Hour), "what has expired is not there")
		assert.True(t, swap(nil, two, 1))
	})
}

// Entries that nobody asks for again must not pile up.
func TestMemoryCacheForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemoryCache()
		for i := range 10_000 {
			_, err := m.CompareAndSwap(t.Context(), fmt.Sprintf("key%d", i), nil, nil, time.Minute)
			require.NoError(t, err)
			time.Sleep(time.Second)
			assert.LessOrEqual(t, len(m.entries), 120, "after %d s: those of the ttl, and of the minute between sweeps", i)
		}
	})
}
