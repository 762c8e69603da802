package wxtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// A forgetful store drops a value some time after it was written, whatever its ttl.
type forgetful struct {
	wxtoken.Cache
	keeps time.Duration
}

func (c forgetful) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	return c.Cache.CompareAndSwap(ctx, key, old, new, min(ttl, c.keeps))
}

// A store that loses the record again and again costs no quota, takes no token
// from anyone, and is reported.
func TestStoreThatKeepsLosingTheRecord(t *testing.T) {
	for _, test := range []struct {
		keeps      time.Duration
		processes  int
		repeatable bool
	}{
		{3 * time.Second, 1, false}, {7 * time.Second, 6, false}, {23 * time.Second, 3, false}, {38 * time.Second, 5, false}, {5 * time.Second, 4, true}, {31 * time.Second, 2, true},
	} {
		bubble(t, fmt.Sprintf("after %s, %d processes, repeatable=%v", test.keeps, test.processes, test.repeatable), func(t *testing.T) {
			f, l := &stub{latency: 150 * time.Millisecond, repeatable: test.repeatable}, &log{}
			store := forgetful{wxtoken.NewMemoryCache(), test.keeps}
			var srcs []*wxtoken.Source
			for range test.processes {
				srcs = append(srcs, wxtoken.New(f, store, l.option()))
			}
			for start := time.Now(); time.Since(start) < 3*time.Hour; time.Sleep(3 * time.Second) {
				for _, src := range srcs {
					token(t, src)
				}
			}
			assert.LessOrEqual(t, f.fetches.Load(), int64(40), "in an eighth of a day")
			reported := 0
			for _, e := range l.all() {
				if e.Kind == wxtoken.EventCacheError && strings.Contains(e.Err.Error(), "lost the record") {
					reported++
				}
			}
			assert.Greater(t, reported, 10)
			t.Logf("%d fetches, %d reports", f.fetches.Load(), reported)
		})
	}
}

// Deleting the record by hand forces a new token, and nobody waits for it.
func TestRecordDeletedByHand(t *testing.T) {
	for _, repeatable := range []bool{false, true} {
		bubble(t, fmt.Sprint("repeatable=", repeatable), func(t *testing.T) {
			f := &stub{latency: 250 * time.Millisecond, repeatable: repeatable}
			store := newSwappable()
			srcs := []*wxtoken.Source{wxtoken.New(f, store), wxtoken.New(f, store), wxtoken.New(f, store)}
			use := func(d time.Duration) {
				for start := time.Now(); time.Since(start) < d; time.Sleep(500 * time.Millisecond) {
					for _, src := range srcs {
						before := time.Now()
						token(t, src)
						require.True(t, f.fetches.Load() < 2 || time.Since(before) == 0)
					}
				}
			}
			use(7 * time.Minute)
			store.lose()
			use(150 * time.Second)
			assert.EqualValues(t, 2, f.fetches.Load())
			assert.Equal(t, "token-2", token(t, srcs[2]))
			store.lose() // and again, too soon
			use(130 * time.Second)
			assert.EqualValues(t, 2, f.fetches.Load())
			use(4 * time.Minute)
			assert.LessOrEqual(t, f.fetches.Load(), int64(3))
		})
	}
}

// The store has the record of a moment ago, while other processes go on.
func TestStoreGoesBack(t *testing.T) {
	snapshot := func(t *testing.T, c wxtoken.Cache) []byte {
		raw, err := c.Get(t.Context(), "wxtoken:stub")
		require.NoError(t, err)
		return raw
	}
	bubble(t, "while another process notes a doubt: the newest token wins, and is verified", func(t *testing.T) {
		f, cache := &stub{latency: 100 * time.Millisecond}, wxtoken.NewMemoryCache()
		a, b := wxtoken.New(f, cache), wxtoken.New(f, cache)
		token(t, a)
		token(t, b)
		before := snapshot(t, cache)
		time.Sleep(3 * time.Minute)
		require.NoError(t, a.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, a))
		r := map[string]any{}
		require.NoError(t, json.Unmarshal(before, &r))
		r["owed"], r["seq"] = 2, 4 // b's request timed out, in the branch that had gone back
		raw, err := json.Marshal(r)
		require.NoError(t, err)
		put(t, cache, raw)
		served := map[string]bool{}
		for start := time.Now(); time.Since(start) < 5*time.Minute; time.Sleep(time.Second) {
			served[token(t, a)] = true
			served[token(t, b)] = true
		}
		assert.Equal(t, "token-3", recordOf(t, cache)["token"])
		assert.NotContains(t, recordOf(t, cache), "owed")
		assert.Equal(t, map[string]bool{"token-1": true, "token-2": true, "token-3": true}, served)
		assert.EqualValues(t, 3, f.fetches.Load())
	})
	bubble(t, "during a fetch: its token is published all the same, and verified", func(t *testing.T) {
		f, cache := &stub{latency: 2 * time.Second}, wxtoken.NewMemoryCache()
		src := wxtoken.New(f, cache)
		token(t, src)
		before := snapshot(t, cache)
		for f.fetches.Load() == 1 {
			token(t, src)
			time.Sleep(time.Second)
		}
		put(t, cache, before) // without the lease
		time.Sleep(1500 * time.Millisecond)
		assert.Equal(t, "token-2", token(t, src))
		assert.Equal(t, "token-2", recordOf(t, cache)["token"])
		assert.EqualValues(t, 1, recordOf(t, cache)["owed"])
		for start := time.Now(); time.Since(start) < 2*time.Minute; time.Sleep(time.Second) {
			token(t, src)
		}
		assert.EqualValues(t, 3, f.fetches.Load())
		assert.NotContains(t, recordOf(t, cache), "owed")
	})
	bubble(t, "to an empty one during a fetch: nobody fetches twice at once", func(t *testing.T) {
		f, store := &stub{latency: 3 * time.Second}, newSwappable()
		src := wxtoken.New(f, store)
		go src.Token(context.Background())
		time.Sleep(time.Second)
		store.lose()
		assert.Equal(t, "token-1", token(t, src))
		require.NoError(t, src.Wait(t.Context()))
		assert.EqualValues(t, 1, recordOf(t, store)["owed"])
		assert.EqualValues(t, 1, f.fetches.Load())
	})
	bubble(t, "two masters for 40 s, each with a fetch: they agree, and one fetch settles which is newest", func(t *testing.T) {
		f := &stub{latency: 100 * time.Millisecond}
		shared := wxtoken.NewMemoryCache()
		one, two := &swappable{cache: shared}, &swappable{cache: shared}
		a, b := wxtoken.New(f, one), wxtoken.New(f, two)
		token(t, a)
		token(t, b)
		time.Sleep(20 * time.Second)
		other := wxtoken.NewMemoryCache()
		put(t, other, snapshot(t, shared))
		two.use(other)
		require.NoError(t, a.Invalidate(t.Context(), "token-1"))
		require.NoError(t, b.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, a))
		require.Equal(t, "token-3", token(t, b))
		time.Sleep(40 * time.Second)
		two.use(shared) // the older one's master wins
		for start := time.Now(); time.Since(start) < 4*time.Minute; time.Sleep(time.Second) {
			token(t, a)
			token(t, b)
		}
		assert.Equal(t, "token-4", recordOf(t, shared)["token"])
		assert.Equal(t, "token-4", token(t, a))
		assert.Equal(t, "token-4", token(t, b))
		assert.EqualValues(t, 4, f.fetches.Load())
	})
	bubble(t, "a rejection that was lost is written again, and causes one fetch", func(t *testing.T) {
		f, cache := &stub{}, wxtoken.NewMemoryCache()
		src := wxtoken.New(f, cache)
		token(t, src)
		before := snapshot(t, cache)
		time.Sleep(20 * time.Second)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		put(t, cache, before)
		assert.Equal(t, "token-2", token(t, src))
		assert.EqualValues(t, 1, recordOf(t, cache)["early"])
	})
}

// Another system fetches, and every process that holds the dead token restarts.
func TestRestartsInAConflict(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		now, cache := time.Now(), wxtoken.NewMemoryCache()
		put(t, cache, fmt.Appendf(nil, `{"v":1,"epoch":"e","seq":9,"token":"dead","issued_at":%d,"expires_at":%d,"early":6}`,
			now.UnixMilli(), now.Add(2*time.Hour).UnixMilli()))
		f := &stub{}
		for f.fetches.Load() == 0 { // each lives for 20 s
			src := wxtoken.New(f, cache)
			for born := time.Now(); time.Since(born) < 20*time.Second; time.Sleep(4 * time.Second) {
				_ = src.Invalidate(t.Context(), token(t, src))
			}
			require.LessOrEqual(t, time.Since(now), 8*time.Minute, "320 s, and two minutes for the issuer's clock")
		}
	})
}

// A record of any size costs little, and is overwritten.
func TestForeignRecordsOfAnySize(t *testing.T) {
	for name, value := range map[string]string{
		"an epoch of 40 MB":      `{"v":1,"epoch":"` + strings.Repeat("e", 40<<20) + `","seq":1}`,
		"a message of 9 MB":      `{"v":1,"epoch":"e","seq":1,"cooldown":{"until":1,"code":45009,"message":"` + strings.Repeat("m", 9<<20) + `"}}`,
		"a million fields":       `{"v":1,` + strings.Repeat(`"x":0,`, 1<<20) + `"epoch":"e"}`,
		"nesting":                strings.Repeat("[", 5<<20),
		"a token for 100 years":  fmt.Sprintf(`{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":%d}`, time.Now().AddDate(100, 0, 0).UnixMilli()),
		"a token with a newline": `{"v":1,"epoch":"e","seq":1,"token":"x\ny","expires_at":4102444800000}`,
	} {
		bubble(t, name, func(t *testing.T) {
			store := &fixed{value: []byte(value), Cache: wxtoken.NewMemoryCache()}
			f, l := &stub{}, &log{}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			assert.Equal(t, "token-1", token(t, wxtoken.New(f, store, l.option())))
			runtime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20), "bytes for a call")
			assert.Equal(t, "token-1", recordOf(t, store)["token"])
			require.Equal(t, 1, l.count(wxtoken.EventCacheError))
			assert.Less(t, len(l.all()[0].Err.Error()), 300)
		})
	}
}

// A fixed store holds a value that was not copied for this test, until it is overwritten.
type fixed struct {
	value []byte
	wxtoken.Cache
}

func (c *fixed) Get(ctx context.Context, key string) ([]byte, error) {
	if c.value != nil {
		return c.value, nil
	}
	return c.Cache.Get(ctx, key)
}

func (c *fixed) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if c.value == nil {
		return c.Cache.CompareAndSwap(ctx, key, old, new, ttl)
	}
	if len(old) != len(c.value) {
		return false, errors.New("this is not what was read")
	}
	c.value = nil
	return c.Cache.CompareAndSwap(ctx, key, nil, new, ttl)
}
