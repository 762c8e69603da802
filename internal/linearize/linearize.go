// Package linearize tests that a store behaves, to all processes together, like one
// map that does one operation after another. The protocol depends on this.
//
// It records the answers to concurrent clients, and lets porcupine search for an
// order of operations that explains them:
//
//   - a swap that reported true happened once, while it was called;
//   - one that reported false did not happen, and at some moment while it was
//     called old was not there; but if the client resends commands by itself,
//     it may have happened while it was called;
//   - one that failed happened once, at any time from its call on, or never.
package linearize

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/wxtoken/wxtoken"
)

// An op is a request to a cache, and answer is what the cache returned.
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

// outcome distinguishes the answers to swaps.
func (a answer) outcome() string {
	switch {
	case a.maybe:
		return " maybe"
	case a.stored:
		return " true"
	}
	return ""
}

// steps returns what one key of a map may hold after an operation with this answer;
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

// A Workload describes how clients use a store.
type Workload struct {
	Caches    []wxtoken.Cache                 // one for each client, on the same store
	Evict     func(key string)                // removes a key without the clients' knowledge; nil: not done
	FalseIsNo bool                            // a swap that reports false certainly did not happen
	During    func(history int) (stop func()) // disturbs a history; may be nil
}

// Check records histories and fails t at the first that has no explanation.
func (w Workload) Check(t *testing.T, histories int) {
	t.Helper()
	for _, o := range w.unexplained(t, histories) {
		t.Errorf("%d..%d client %d: %+v: %+v", o.Call, o.Return, o.ClientId, o.Input, o.Output)
	}
}

// unexplained returns the first history that has no explanation.
func (w Workload) unexplained(t *testing.T, histories int) (bad []porcupine.Operation) {
	t.Helper()
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
		stop := func() {}
		if w.During != nil {
			stop = w.During(i)
		}
		history := w.record(t.Context(), rand.New(rand.NewPCG(seed, uint64(i))))
		stop()
		switch porcupine.CheckOperationsTimeout(model, history, time.Minute) {
		case porcupine.Illegal:
			return history
		case porcupine.Unknown:
			t.Fatalf("history %d of seed %d was not decided in time", i, seed)
		}
		for _, o := range history {
			counts[o.Input.(op).kind+o.Output.(answer).outcome()]++
		}
	}
	t.Logf("%d histories: %v", histories, counts)
	return nil
}

// record lets each client do some operations on the keys of its history, all at the
// same time.
func (w Workload) record(ctx context.Context, rng *rand.Rand) (history []porcupine.Operation) {
	keys := []string{fmt.Sprintf("lin:%x:a", rng.Uint64()), fmt.Sprintf("lin:%x:b", rng.Uint64())}
	var mu sync.Mutex
	var clients sync.WaitGroup
	start := time.Now()
	for id, cache := range w.Caches {
		seed := rng.Uint64()
		clients.Go(func() {
			c := client{rng: rand.New(rand.NewPCG(seed, 0)), name: fmt.Sprint(id), seen: make(map[string]string)}
			for range 30 {
				o := porcupine.Operation{ClientId: id, Input: c.choose(keys, w.Evict != nil), Call: int64(time.Since(start))}
				ans, err := w.do(ctx, cache, o.Input.(op))
				o.Output, o.Return = ans, int64(time.Since(start))
				c.learn(o.Input.(op), ans)
				switch {
				case err != nil && o.Input.(op).kind == "get":
					continue // proves nothing
				case err != nil:
					o.Return = math.MaxInt64 // it may still happen
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

// A client chooses operations that are likely to succeed: its swaps start mostly from
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
	c.made++ // no value is stored twice, so that each identifies its writer
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

func (w Workload) do(ctx context.Context, cache wxtoken.Cache, o op) (answer, error) {
	switch o.kind {
	case "evict":
		w.Evict(o.key)
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
	return answer{stored: stored, maybe: err != nil || !stored && !w.FalseIsNo}, err
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
