package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
)

// The protocol stands on this: to all processes together, a backend behaves as
// one map that does one operation after another. The tests here record what
// concurrent clients are told, with replies lost on the way, and let porcupine
// search for an order of operations that explains it:
//
//   - a swap that reported true happened once, while it was called;
//   - one that reported false did not happen, and at some moment while it was
//     called old was not there; but if the client sends commands again by
//     itself, it may have happened while it was called;
//   - one that failed happened once, at any time from its call on, or never.

// An op is what was asked of a cache, and answer what it said.
type op struct {
	kind     string // get, swap or evict
	key      string
	old, new string // "" for an absent key, as in the model's state
}

type answer struct {
	value  string // of get
	stored bool   // of swap
	maybe  bool   // the swap may have happened
}

// outcome tells the answers to swaps apart.
func (a answer) outcome() string {
	switch {
	case a.maybe:
		return " maybe"
	case a.stored:
		return " true"
	}
	return ""
}

// steps is what one key of a map may hold after an operation with this answer;
// nothing, if the answer is wrong for a key that holds state.
func steps(state, input, output any) []any {
	value, op, ans := state.(string), input.(op), output.(answer)
	switch {
	case op.kind == "evict":
		return []any{""}
	case op.kind == "get" && value == ans.value:
		return []any{value}
	case op.kind == "get":
		return nil
	case value == op.old && ans.maybe:
		return []any{value, op.new}
	case value == op.old && ans.stored:
		return []any{op.new}
	case value != op.old && !ans.stored:
		return []any{value}
	}
	return nil
}

// A workload is how clients treat a cache.
type workload struct {
	caches    []wxtoken.Cache // one for each client, on the same store
	evict     func(key string)
	falseIsNo bool // whether a swap that reports false did certainly not happen
}

// check records histories and lets porcupine judge them. It returns the first
// that has no explanation.
func (w workload) check(t *testing.T, histories int) (bad []porcupine.Operation) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	model := (&porcupine.NondeterministicModel{
		Partition: byKey,
		Init:      func() []any { return []any{""} },
		Step:      steps,
		Equal:     func(a, b any) bool { return a == b },
	}).ToModel()
	counts := make(map[string]int)
	for i := range histories {
		history := w.record(t.Context(), rand.New(rand.NewPCG(seed, uint64(i))))
		result := porcupine.CheckOperationsTimeout(model, history, time.Minute)
		require.NotEqual(t, porcupine.Unknown, result, "history %d of seed %d was not decided in time", i, seed)
		if result == porcupine.Illegal {
			return history
		}
		for _, o := range history {
			counts[o.Input.(op).kind+o.Output.(answer).outcome()]++
		}
	}
	t.Logf("%d histories: %v", histories, counts)
	return nil
}

// record lets each client do some operations on keys of its own history, all at
// the same time.
func (w workload) record(ctx context.Context, rng *rand.Rand) (history []porcupine.Operation) {
	keys := []string{fmt.Sprintf("lin:%x:a", rng.Uint64()), fmt.Sprintf("lin:%x:b", rng.Uint64())}
	var mu sync.Mutex
	var clients sync.WaitGroup
	start := time.Now()
	for id, cache := range w.caches {
		seed := rng.Uint64()
		clients.Go(func() {
			c := client{rng: rand.New(rand.NewPCG(seed, 0)), name: fmt.Sprint(id), seen: make(map[string]string)}
			for range 30 {
				o := porcupine.Operation{ClientId: id, Input: c.choose(keys, w.evict != nil), Call: int64(time.Since(start))}
				ans, err := w.do(ctx, cache, o.Input.(op))
				o.Output, o.Return = ans, int64(time.Since(start))
				c.learn(o.Input.(op), ans)
				switch {
				case err != nil && o.Input.(op).kind == "get":
					continue // says nothing
				case err != nil:
					o.Return = math.MaxInt64 // it may yet happen
				}
				mu.Lock()
				history = append(history, o)
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	return history
}

// A client chooses operations that have a chance: its swaps start mostly from
// what it last saw.
type client struct {
	rng  *rand.Rand
	name string
	made int
	seen map[string]string
}

func (c *client) choose(keys []string, evict bool) op {
	key := keys[c.rng.IntN(len(keys))]
	switch p := c.rng.IntN(100); {
	case evict && p < 5:
		return op{kind: "evict", key: key}
	case p < 40:
		return op{kind: "get", key: key}
	}
	c.made++ // no value is stored twice, so that each tells its writer
	return op{kind: "swap", key: key, old: c.seen[key], new: fmt.Sprintf("%s.%d", c.name, c.made)}
}

func (c *client) learn(o op, ans answer) {
	switch {
	case o.kind == "swap" && !ans.stored && c.rng.IntN(2) == 0:
		c.seen[o.key] = o.new // a guess
	case o.kind == "swap" && ans.stored:
		c.seen[o.key] = o.new
	case o.kind != "swap":
		c.seen[o.key] = ans.value
	}
}

func (w workload) do(ctx context.Context, cache wxtoken.Cache, o op) (answer, error) {
	switch o.kind {
	case "evict":
		w.evict(o.key)
		return answer{}, nil
	case "get":
		value, err := cache.Get(ctx, o.key)
		if errors.Is(err, wxtoken.ErrCacheMiss) {
			err = nil
		}
		return answer{value: string(value)}, err
	}
	var old []byte
	if o.old != "" {
		old = []byte(o.old)
	}
	stored, err := cache.CompareAndSwap(ctx, o.key, old, []byte(o.new), time.Minute)
	return answer{stored: stored, maybe: err != nil || !stored && !w.falseIsNo}, err
}

func byKey(history []porcupine.Operation) (parts [][]porcupine.Operation) {
	keys := make(map[string][]porcupine.Operation)
	for _, o := range history {
		keys[o.Input.(op).key] = append(keys[o.Input.(op).key], o)
	}
	for _, part := range keys {
		parts = append(parts, part)
	}
	return parts
}

func TestRedisCacheIsLinearizable(t *testing.T) {
	server := servers.Redis(t)
	direct := redisClient(t, server.Addr())
	evict := func(key string) { assert.NoError(t, direct.Del(t.Context(), key).Err()) }

	t.Run("directly", func(t *testing.T) {
		w := workload{evict: evict, falseIsNo: true}
		for range 6 {
			w.caches = append(w.caches, wxtoken.NewRedisCache(redisClient(t, server.Addr())))
		}
		w.mustBeLinearizable(t)
	})
	t.Run("replies lost", func(t *testing.T) {
		w := workload{evict: evict, falseIsNo: true}
		proxy := servers.Proxy(t, server.Addr())
		for range 6 {
			w.caches = append(w.caches, wxtoken.NewRedisCache(redisClient(t, proxy.Addr())))
		}
		proxy.DropRepliesRandomly(0.05, 1)
		w.mustBeLinearizable(t)
		assert.Positive(t, proxy.Dropped())
	})
	// go-redis with its retries on. A swap from nothing that is sent again could
	// happen before an eviction and once more after it, so nothing is evicted.
	t.Run("replies lost and commands sent again", func(t *testing.T) {
		w := workload{}
		proxy := servers.Proxy(t, server.Addr())
		for range 6 {
			retrying := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MinRetryBackoff: time.Millisecond, MaxRetryBackoff: 3 * time.Millisecond})
			t.Cleanup(func() { require.NoError(t, retrying.Close()) })
			w.caches = append(w.caches, wxtoken.NewRedisCache(retrying))
		}
		proxy.DropRepliesRandomly(0.05, 1)
		w.mustBeLinearizable(t)
		assert.Positive(t, proxy.Dropped())
	})
}

func TestMemcachedCacheIsLinearizable(t *testing.T) {
	server := servers.Memcached(t)
	direct := memcachedClient(t, server.Addr())
	evict := func(key string) { _ = direct.Delete(key) } // a miss is as good
	for name, drop := range map[string]float64{"directly": 0, "replies lost": 0.05} {
		t.Run(name, func(t *testing.T) {
			w := workload{evict: evict, falseIsNo: true}
			proxy := servers.Proxy(t, server.Addr())
			for range 6 {
				w.caches = append(w.caches, wxtoken.NewMemcachedCache(memcachedClient(t, proxy.Addr())))
			}
			proxy.DropRepliesRandomly(drop, 1)
			w.mustBeLinearizable(t)
			assert.Equal(t, drop > 0, proxy.Dropped() > 0)
		})
	}
}

func TestMemoryCacheIsLinearizable(t *testing.T) {
	cache := wxtoken.NewMemoryCache()
	workload{caches: slices.Repeat([]wxtoken.Cache{cache}, 6), falseIsNo: true}.mustBeLinearizable(t)
}

func (w workload) mustBeLinearizable(t *testing.T) {
	t.Helper()
	for _, o := range w.check(t, 20) {
		t.Errorf("%d..%d client %d: %+v: %+v", o.Call, o.Return, o.ClientId, o.Input, o.Output)
	}
}

// The search must be able to find something.
func TestBrokenCachesAreNotLinearizable(t *testing.T) {
	for name, breakIt := range map[string]func(c wxtoken.Cache, ctx context.Context, key string, old, new []byte) (bool, error){
		"compares, then stores": func(c wxtoken.Cache, ctx context.Context, key string, old, new []byte) (bool, error) {
			there, err := c.Get(ctx, key)
			if (err != nil) != (old == nil) || string(there) != string(old) {
				return false, nil
			}
			time.Sleep(50 * time.Microsecond)
			there, _ = c.Get(ctx, key)
			return c.CompareAndSwap(ctx, key, there, new, time.Minute)
		},
		"stores and says false": func(c wxtoken.Cache, ctx context.Context, key string, old, new []byte) (bool, error) {
			stored, err := c.CompareAndSwap(ctx, key, old, new, time.Minute)
			return stored && rand.N(10) > 0, err
		},
		"says true and stores nothing": func(c wxtoken.Cache, ctx context.Context, key string, old, new []byte) (bool, error) {
			if rand.N(10) == 0 {
				return true, nil
			}
			return c.CompareAndSwap(ctx, key, old, new, time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cache := brokenCache{wxtoken.NewMemoryCache(), breakIt}
			w := workload{caches: slices.Repeat([]wxtoken.Cache{cache}, 6), falseIsNo: true}
			assert.NotEmpty(t, w.check(t, 100), "not noticed")
		})
	}
}

type brokenCache struct {
	wxtoken.Cache
	swap func(c wxtoken.Cache, ctx context.Context, key string, old, new []byte) (bool, error)
}

func (b brokenCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, _ time.Duration) (bool, error) {
	return b.swap(b.Cache, ctx, key, old, new)
}
