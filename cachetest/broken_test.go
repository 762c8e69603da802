package cachetest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
)

// A swap is the arguments of CompareAndSwap.
type swap struct {
	ctx      context.Context
	key      string
	old, new []byte
	ttl      time.Duration
}

func (s swap) on(c wxtoken.Cache) (bool, error) {
	return c.CompareAndSwap(s.ctx, s.key, s.old, s.new, s.ttl)
}

// force stores new without comparing.
func (s swap) force(c wxtoken.Cache) (bool, error) {
	s.old, _ = c.Get(s.ctx, s.key)
	return s.on(c)
}

// A change is a Cache with one or both methods replaced.
type change struct {
	wxtoken.Cache
	get  func(c wxtoken.Cache, ctx context.Context, key string) ([]byte, error)
	swap func(c wxtoken.Cache, s swap) (bool, error)
}

func (c change) Get(ctx context.Context, key string) ([]byte, error) {
	if c.get == nil {
		return c.Cache.Get(ctx, key)
	}
	return c.get(c.Cache, ctx, key)
}

func (c change) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	s := swap{ctx, key, old, new, ttl}
	if c.swap == nil {
		return s.on(c.Cache)
	}
	return c.swap(c.Cache, s)
}

// changeValue passes each value through f before it is stored.
func changeValue(f func([]byte) []byte) change {
	return change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		if s.new = f(bytes.Clone(s.new)); s.old != nil {
			s.old = f(bytes.Clone(s.old))
		}
		return s.on(c)
	}}
}

// changeKey passes each key through f.
func changeKey(f func(string) string) change {
	return change{
		get: func(c wxtoken.Cache, ctx context.Context, key string) ([]byte, error) { return c.Get(ctx, f(key)) },
		swap: func(c wxtoken.Cache, s swap) (bool, error) {
			s.key = f(s.key)
			return s.on(c)
		},
	}
}

func changeTTL(f func(time.Duration) time.Duration) change {
	return change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		s.ttl = f(s.ttl)
		return s.on(c)
	}}
}

// keeping stores values in its own map; in is applied to values that are stored, out
// to values that are read.
func keeping(in, out func([]byte) []byte) change {
	var mu sync.Mutex
	kept := make(map[string][]byte)
	return change{
		get: func(c wxtoken.Cache, ctx context.Context, key string) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if _, err := c.Get(ctx, key); err != nil {
				return nil, err
			}
			return out(kept[key]), nil
		},
		swap: func(c wxtoken.Cache, s swap) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			stored, err := s.on(c)
			if stored {
				kept[s.key] = in(s.new)
			}
			return stored, err
		},
	}
}

// keepingTTL lets each entry expire when its first value would have.
func keepingTTL() change {
	var mu sync.Mutex
	ends := make(map[string]time.Time)
	return change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		if s.old == nil {
			ends[s.key] = time.Now().Add(s.ttl)
		} else if left := time.Until(ends[s.key]); left > 0 {
			s.ttl = left
		}
		return s.on(c)
	}}
}

var brokenCaches = map[string]struct {
	check string // the check that must find it; others may, too
	change
}{
	"a miss returns no error": {"miss", change{get: func(c wxtoken.Cache, ctx context.Context, key string) ([]byte, error) {
		value, err := c.Get(ctx, key)
		if errors.Is(err, wxtoken.ErrCacheMiss) {
			return nil, nil
		}
		return value, err
	}}},
	"a miss returns another error": {"miss", change{get: func(c wxtoken.Cache, ctx context.Context, key string) ([]byte, error) {
		value, err := c.Get(ctx, key)
		if errors.Is(err, wxtoken.ErrCacheMiss) {
			return nil, errors.New("not found")
		}
		return value, err
	}}},
	"swaps an absent key": {"miss", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		if _, err := c.Get(s.ctx, s.key); err != nil {
			s.old = nil
		}
		return s.on(c)
	}}},
	"compares nothing": {"swap", change{swap: func(c wxtoken.Cache, s swap) (bool, error) { return s.force(c) }}},
	"adds over an existing value": {"swap", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		if s.old == nil {
			return s.force(c)
		}
		return s.on(c)
	}}},
	"compares a prefix": {"swap", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		if there, _ := c.Get(s.ctx, s.key); s.old != nil && bytes.HasPrefix(there, s.old) {
			return s.force(c)
		}
		return s.on(c)
	}}},
	"reports false and stores": {"swap", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		stored, err := s.on(c)
		if err == nil && !stored {
			_, err = s.force(c)
		}
		return stored, err
	}}},
	"stores after returning": {"swap", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		s.new = bytes.Clone(s.new)
		if there, err := c.Get(s.ctx, s.key); (err != nil) != (s.old == nil) || !bytes.Equal(there, s.old) {
			return s.on(c)
		}
		time.AfterFunc(time.Millisecond, func() { _, _ = s.on(c) })
		return true, s.ctx.Err()
	}}},
	"treats empty as absent": {"empty value", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		if len(s.old) == 0 {
			s.old = nil
		}
		return s.on(c)
	}}},
	"returns nil for empty": {"empty value", change{get: func(c wxtoken.Cache, ctx context.Context, key string) ([]byte, error) {
		value, err := c.Get(ctx, key)
		if len(value) == 0 {
			value = nil
		}
		return value, err
	}}},
	"cuts values at a zero byte": {"any bytes", changeValue(func(v []byte) []byte {
		v, _, _ = bytes.Cut(v, []byte{0})
		return v
	})},
	"trims values":     {"any bytes", changeValue(bytes.TrimSpace)},
	"stores text only": {"any bytes", changeValue(func(v []byte) []byte { return bytes.ToValidUTF8(v, []byte("?")) })},
	"limits values":    {"sizes", changeValue(func(v []byte) []byte { return v[:min(len(v), 255)] })},
	"fails for large values": {"sizes", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		if len(s.new) > 16<<10 {
			return false, errors.New("too large")
		}
		return s.on(c)
	}}},
	"reports false for large values": {"sizes", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		if len(s.new) > 300 {
			return false, nil
		}
		return s.on(c)
	}}},
	"loses large values": {"sizes", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		if len(s.new) > 1000 {
			return true, nil
		}
		return s.on(c)
	}}},
	"evicts large values": {"sizes", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		if len(s.new) > 8<<10 {
			s.ttl = 1
		}
		stored, err := s.on(c)
		time.Sleep(time.Microsecond)
		return stored, err
	}}},
	"keeps passed slices":   {"isolation", keeping(func(v []byte) []byte { return v }, bytes.Clone)},
	"returns its own slice": {"isolation", keeping(bytes.Clone, func(v []byte) []byte { return v })},
	"ignores case in keys":  {"keys apart", changeKey(strings.ToLower)},
	"cuts keys":             {"longest key", changeKey(func(k string) string { return k[:min(len(k), 249)] })},
	"compares, then stores": {"one winner", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		there, err := c.Get(s.ctx, s.key)
		if (err != nil) != (s.old == nil) || !bytes.Equal(there, s.old) {
			return s.on(c)
		}
		time.Sleep(time.Microsecond)
		return s.force(c)
	}}},
	"fails under contention": {"one winner", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		stored, err := s.on(c)
		if err == nil && !stored && bytes.HasPrefix(s.new, []byte("round")) {
			err = errors.New("conflict")
		}
		return stored, err
	}}},
	"never expires": {"ttl", changeTTL(func(d time.Duration) time.Duration {
		return d * 1000
	})},
	"expires early":   {"ttl", changeTTL(func(d time.Duration) time.Duration { return d * 9 / 10 })},
	"cuts to seconds": {"ttl", changeTTL(func(d time.Duration) time.Duration { return max(d.Truncate(time.Second), min(d, 1)) })},
	"0 seconds is never": {"ttl", changeTTL(func(d time.Duration) time.Duration {
		if d > 0 && d < time.Second {
			return 1000 * time.Hour
		}
		return d
	})},
	"keeps the first ttl": {"ttl", keepingTTL()},
	"says false when ctx ends": {"ctx ends during", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		if s.ctx.Err() != nil {
			return s.on(c)
		}
		time.Sleep(time.Millisecond)
		stored, err := s.on(c)
		if s.ctx.Err() != nil {
			return false, nil
		}
		return stored, err
	}}},
	"says true when ctx ends": {"ctx ends during", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		if s.ctx.Err() != nil {
			return s.on(c)
		}
		time.Sleep(time.Millisecond)
		if s.ctx.Err() != nil {
			return true, nil
		}
		return s.on(c)
	}}},
	"stores half when ctx ends": {"ctx ends during", change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		if s.ctx.Err() != nil {
			return s.on(c)
		}
		time.Sleep(time.Millisecond)
		if err := s.ctx.Err(); err != nil {
			s.ctx, s.new = context.WithoutCancel(s.ctx), s.new[:len(s.new)/2]
			_, _ = s.on(c)
			return false, err
		}
		return s.on(c)
	}}},
}
