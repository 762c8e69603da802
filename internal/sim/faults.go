package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/wxtoken/wxtoken"
)

var (
	errIO    = errors.New("sim: cache I/O error")
	errCut   = errors.New("sim: the store cannot be reached")
	errReset = errors.New("sim: connection reset by peer")
)

const secretMark = "SIMSECRET_"

// nodeCache is a process's connection to the store.
type nodeCache struct{ p *process }

// Get reads the record.
func (c nodeCache) Get(ctx context.Context, key string) (value []byte, err error) {
	w := c.p.n.w
	err = c.do(ctx, func() {
		w.report.Reads++
		value = shift(w.store.get(time.Now()), -c.p.n.skew)
	})
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, wxtoken.ErrCacheMiss
	}
	return append([]byte(nil), value...), nil
}

// CompareAndSwap changes the record and has the change checked.
func (c nodeCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (stored bool, err error) {
	w := c.p.n.w
	err = c.do(ctx, func() {
		w.report.Writes++
		before := shift(old, c.p.n.skew)
		after := shift(new, c.p.n.skew)
		if stored = w.store.cas(time.Now(), before, after, ttl); stored {
			w.written(c.p, before, after)
		}
	})
	return stored && err == nil, err
}

// do lets apply take effect, or not, amid the faults. It returns the error
// that the process sees.
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
	late := n.ops.IntN(2) == 0 // of an error: the operation took effect
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
	if err := ctx.Err(); err != nil && late { // after a pause, deadline and answer are there together
		return err
	}
	return nil
}

// unreachable is what a client behind a partition gets: nothing until ctx
// ends, or a quick error.
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

// pauses draws whether the process is stopped before or after an operation.
func pauses(r *rand.Rand, p float64) (before, after bool) {
	x := r.Float64()
	return x < p/2, x >= p/2 && x < p
}

// nodeFetcher is a process's way to the platform.
type nodeFetcher struct{ p *process }

// repeatable marks stable_token's fetcher, as Source documents it.
type repeatable struct{ nodeFetcher }

func (repeatable) Repeatable() bool { return true }

func (nodeFetcher) Key() string { return "token:sim" }

// A request is one fetch, from its call until its outcome is in the record.
type request struct {
	p         *process
	lease     string // held when it was called
	called    time.Time
	landed    time.Time // at the platform
	returned  time.Time // to the Source
	token     string
	disturbed bool // by a fault that explains a second fetch
}

// fate is what befalls a request; it is drawn beforehand.
type fate struct {
	before, after, busy, late, lost, crash, silent bool

	out, back, delay time.Duration
}

func (n *node) fate() fate {
	r, f := n.fetches, &n.w.cfg.Faults
	var t fate
	t.before, t.after = pauses(r, f.Pause)
	t.busy = r.Float64() < f.Busy
	t.late = r.Float64() < f.Late
	t.lost = r.Float64() < f.LostReply
	t.crash = r.Float64() < f.Crash
	t.silent = r.IntN(2) == 0
	t.out = between(r, 25*time.Millisecond, 150*time.Millisecond)
	t.back = between(r, 25*time.Millisecond, 150*time.Millisecond)
	t.delay = between(r, 5*time.Second, time.Minute)
	return t
}

// Fetch asks the platform. A paused process sends its request even if ctx
// ended meanwhile: it was stopped between the last look and the write.
func (f nodeFetcher) Fetch(ctx context.Context) (wxtoken.Token, error) {
	p, n, w := f.p, f.p.n, f.p.n.w
	if err := p.gate(ctx); err != nil {
		return wxtoken.Token{}, err
	}
	if err := ctx.Err(); err != nil {
		return wxtoken.Token{}, err
	}
	w.mu.Lock()
	t := n.fate()
	q := w.called(p)
	if t.before {
		n.pause(n.fetches)
	}
	w.mu.Unlock()
	if err := p.gate(ctx); err != nil {
		w.locked(func() { delete(w.watch.active, q) })
		return wxtoken.Token{}, err
	}
	token, err := f.send(ctx, q, t)
	if err := p.gate(ctx); err != nil {
		return wxtoken.Token{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil && t.silent {
		token, err = wxtoken.Token{}, ctx.Err()
	}
	w.answered(q, err)
	return token, err
}

// send carries the request to the platform and its answer back.
func (f nodeFetcher) send(ctx context.Context, q *request, t fate) (token wxtoken.Token, err error) {
	n, w := f.p.n, f.p.n.w
	if t.late && !t.busy {
		return f.sendLate(ctx, q, t)
	}
	time.Sleep(t.out)
	w.mu.Lock()
	token, err = w.land(q, t.busy)
	if err == nil && t.crash && !f.p.dead {
		n.kill("crash after issue")
	}
	w.mu.Unlock()
	if err == nil && t.lost {
		return wxtoken.Token{}, lostReply(ctx, q, t)
	}
	time.Sleep(t.back)
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.after && !f.p.dead {
		n.pause(n.fetches)
	}
	return token, err
}

// sendLate is a request that hangs on the way: its process gives it up, or is
// told that the connection broke, and it arrives all the same.
func (f nodeFetcher) sendLate(ctx context.Context, q *request, t fate) (wxtoken.Token, error) {
	w := f.p.n.w
	type answer struct {
		token wxtoken.Token
		err   error
	}
	arrived := make(chan answer, 1)
	w.locked(func() { w.report.LateRequests++; q.disturbed = true })
	go func() {
		time.Sleep(t.delay)
		w.mu.Lock()
		defer w.mu.Unlock()
		token, err := w.land(q, false)
		arrived <- answer{token, err}
	}()
	if !t.silent {
		time.Sleep(t.out)
		return wxtoken.Token{}, errReset
	}
	select {
	case a := <-arrived:
		return a.token, a.err
	case <-ctx.Done():
		return wxtoken.Token{}, ctx.Err()
	}
}

// lostReply is an answer that does not come.
func lostReply(ctx context.Context, q *request, t fate) error {
	q.p.n.w.locked(func() { q.p.n.w.report.LostReplies++; q.disturbed = true })
	if !t.silent {
		time.Sleep(t.back)
		return errReset
	}
	wait := time.NewTimer(time.Minute)
	defer wait.Stop()
	select {
	case <-wait.C:
		return errReset
	case <-ctx.Done():
		return ctx.Err()
	}
}
