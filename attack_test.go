package wxtoken_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken"
)

// deaf says of every write, after 100 µs, that something else was there.
type deaf struct{ wxtoken.Cache }

func (deaf) CompareAndSwap(context.Context, string, []byte, []byte, time.Duration) (bool, error) {
	time.Sleep(100 * time.Microsecond)
	return false, nil
}

func TestStoreThatNeverSwaps(t *testing.T) {
	bubble(t, "is not asked in a tight loop", func(t *testing.T) {
		f, cache := &stub{}, &faultyCache{Cache: deaf{wxtoken.NewMemoryCache()}}
		_, err := wxtoken.New(f, cache).Token(t.Context())
		assert.Error(t, err)
		assert.Less(t, cache.gets.Load(), int64(3000), "reads in a minute")
		assert.Zero(t, f.fetches.Load())
	})
	bubble(t, "leaves the copy in use", func(t *testing.T) {
		store := &swappable{cache: wxtoken.NewMemoryCache()}
		src := wxtoken.New(&stub{}, store)
		token(t, src)
		store.cache = deaf{store.cache}
		for start := time.Now(); time.Since(start) < 2*time.Hour-time.Second; time.Sleep(time.Second) {
			token(t, src)
		}
	})
}
