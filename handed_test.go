package wxtoken

import (
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
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
