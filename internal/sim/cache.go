package sim

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/wxtoken/wxtoken"
)

var (
	errIO  = errors.New("sim: cache I/O error")
	errCut = errors.New("sim: the store cannot be reached")
)

// nodeCache is a process's connection to the store.
type nodeCache struct{ p *process }

// Get reads the record.
func (c nodeCache) Get(ctx context.Context, key string) (value []byte, err error) {
	w := c.p.n.w
	err = c.do(ctx, func() {
		w.report.Reads++
		w.reads.add(time.Since(w.start))
		value = shift(w.storeOf(c.p.n).get(time.Now()), -c.p.n.skew)
	})
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, wxtoken.ErrCacheMiss
	}
	return value, nil
}

// CompareAndSwap changes the record and checks the change.
func (c nodeCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (stored bool, err error) {
	w := c.p.n.w
	var full error
	err = c.do(ctx, func() {
		w.report.Writes++
		before := shift(old, c.p.n.skew)
		after := shift(new, c.p.n.skew)
		if w.cfg.Small != AllValues && decode(after).token() != "" {
			stored, full = w.cfg.Small.swap(&w.store, bytes.Equal(w.store.get(time.Now()), before))
			return
		}
		if stored = w.storeOf(c.p.n).cas(time.Now(), before, after, ttl); stored {
			w.written(c.p, before, after)
			c.p.n.setClock(after)
		}
	})
	err = cmp.Or(err, full)
	return stored && err == nil, err
}

// do applies an operation, or not, as the faults decide. It returns the error that
// the process sees.
func (c nodeCache) do(ctx context.Context, apply func()) error {
	p, n, w := c.p, c.p.n, c.p.n.w
	if err := p.gate(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	f := &w.cfg.Faults
	before, after := pauses(n.ops, f.Pause)
	broken := n.ops.Float64() < f.CacheError
	late := n.ops.IntN(2) == 0 // in case of an error: the operation took effect
	latency := between(n.ops, 200*time.Microsecond, 2*time.Millisecond)
	if before {
		n.pause(n.ops)
	}
	w.mu.Unlock()

	if err := p.gate(ctx); err != nil {
		return err
	}
	time.Sleep(latency)
	w.mu.Lock()
	if wait := time.Until(n.cutUntil); wait > 0 {
		silent := w.blackout
		w.mu.Unlock()
		return unreachable(ctx, silent, wait)
	}
	if !p.dead && (!broken || late) {
		apply()
	}
	if broken {
		w.report.CacheErrors++
	}
	if after {
		n.pause(n.ops)
	}
	w.mu.Unlock()

	if err := p.gate(ctx); err != nil {
		return err
	}
	if broken {
		return errIO
	}
	if err := ctx.Err(); err != nil && late { // after a pause, deadline and answer are ready together
		return err
	}
	return nil
}

// unreachable returns what a client behind a partition gets: nothing until ctx ends,
// or a quick error.
func unreachable(ctx context.Context, silent bool, wait time.Duration) error {
	if !silent {
		return errCut
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return errCut
	}
}

// pauses decides at random whether the process is stopped before or after an
// operation.
func pauses(r *rand.Rand, p float64) (before, after bool) {
	x := r.Float64()
	return x < p/2, x >= p/2 && x < p
}
