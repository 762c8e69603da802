package wxtoken

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMemory(t *testing.T) {
	var m memory
	assert.False(t, m.has(""))
	assert.False(t, m.has("token-0"))
	for n := range 100 {
		m.add("token-" + strconv.Itoa(n))
		m.add("token-" + strconv.Itoa(n)) // again and again, as callers ask
		for i := range 101 {
			assert.Equal(t, i <= n && i > n-16, m.has("token-"+strconv.Itoa(i)), "%d after %d", i, n)
		}
	}
	assert.False(t, m.has(""))
	m.add("token-90")
	assert.True(t, m.has("token-84"), "a known value takes no place")
}

func TestMemoryConcurrently(t *testing.T) {
	var m memory
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for range 100 {
				m.add("token-" + strconv.Itoa(g))
				assert.True(t, m.has("token-"+strconv.Itoa(g)))
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 8, m.last.Load().n)
}

// A request can bear a token that another process handed out, as after a restart.
func TestSourceKnowsTheTokensOfTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		f := FetcherFunc("app", func(context.Context) (Token, error) {
			n++
			return Token{Value: "token-" + strconv.Itoa(n), ExpiresAt: time.Now().Add(time.Hour)}, nil
		})
		cache := NewMemoryCache()
		before := New(f, cache)
		for range 9 {
			_, err := before.Token(t.Context())
			require.NoError(t, err)
			time.Sleep(time.Hour)
		}
		after := New(f, cache)
		assert.False(t, after.handedOut("token-9"), "it has not looked yet")
		_, err := after.Token(t.Context())
		require.NoError(t, err)
		for i := 1; i <= n; i++ {
			assert.Equal(t, i >= n-6, after.handedOut("token-"+strconv.Itoa(i)), "token %d of %d", i, n)
		}
		assert.False(t, after.handedOut(""))
	})
}
