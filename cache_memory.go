package wxtoken

import (
	"context"
	"maps"
	"sync"
	"time"
)

// A MemoryCache keeps records in the memory of one process, for tests and for an app
// that runs as a single process. Several processes with a MemoryCache each fetch a
// token of their own. That is harmless with [NewStableFetcher] and other repeatable
// fetchers, whose platform returns the same token to all of them. With [NewFetcher]
// each fetch supersedes the tokens of the others, so they need a shared store; on one
// machine that can be a [FileCache].
//
// The zero MemoryCache is empty and ready to use. It has no goroutine: expired
// entries are removed by later writes, at most once a minute.
type MemoryCache struct {
	mu        sync.Mutex
	entries   map[string]memoryEntry // guarded by mu, nil before the first write
	nextSweep time.Time              // guarded by mu
}

type memoryEntry struct {
	value   string // a string, so that bytes are copied in and out
	expires time.Time
}

// NewMemoryCache returns an empty [MemoryCache].
func NewMemoryCache() *MemoryCache { return new(MemoryCache) }

// Get implements [Cache].
func (m *MemoryCache) Get(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[key]
	if !ok || !time.Now().Before(e.expires) {
		return nil, ErrCacheMiss
	}
	return []byte(e.value), nil
}

// CompareAndSwap implements [Cache]. An entry lives for exactly ttl.
func (m *MemoryCache) CompareAndSwap(_ context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	expired := func(_ string, e memoryEntry) bool { return !now.Before(e.expires) }
	e, present := m.entries[key]
	present = present && !expired(key, e)
	if present != (old != nil) || e.value != string(old) && present {
		return false, nil
	}
	if m.entries == nil {
		m.entries = make(map[string]memoryEntry)
	}
	if !now.Before(m.nextSweep) {
		maps.DeleteFunc(m.entries, expired)
		m.nextSweep = now.Add(time.Minute)
	}
	m.entries[key] = memoryEntry{string(new), now.Add(ttl)}
	return true, nil
}
