package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken"
)

// A node is one machine: it runs one process after the other.
type node struct {
	w                   *world
	id                  int
	skew                time.Duration // how far its wall clock is ahead
	unlisted            bool
	calls, ops, fetches *rand.Rand

	proc        *process
	born        int // processes so far
	turn        time.Duration
	secret      int // the one it is deployed with
	pausedUntil time.Time
	paused      time.Duration // in all, counted when a pause begins
	cutUntil    time.Time     // no store before then
}

// A process is a Source and its life. Nothing that a dead one does takes
// effect any more.
type process struct {
	n      *node
	source Source
	ctx    context.Context // ends with the process
	cancel context.CancelFunc
	secret int
	dead   bool
	lease  string // the nonce it stored last

	fetched map[string]string // the lease under which it fetched a token
}

var errDead = errors.New("sim: the process is dead")

func (n *node) boot() {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{n: n, ctx: ctx, cancel: cancel, secret: n.secret, fetched: map[string]string{}}
	n.born++
	id := n.w.cfg.Seed<<32 ^ uint64(n.id)<<20 ^ uint64(n.born)
	p.source = n.w.cfg.New(line{p}.fetcher(), nodeCache{p}, id)
	n.proc = p
}

// kill ends the node's process at once, and lets the next call find a new one.
func (n *node) kill(why string) {
	n.proc.dead = true
	n.proc.cancel()
	n.w.watch.forget(n.proc)
	n.w.trace(n, why, nil, "")
	n.w.report.Restarts++
	n.boot()
	n.pausedUntil = time.Now().Add(between(n.fetches, time.Second, 5*time.Second)) // to start takes a while
}

// pause stops everything in the node for a while.
func (n *node) pause(r *rand.Rand) {
	d := exponential(r, n.w.cfg.Faults.PauseMean)
	now := time.Now()
	if until := now.Add(d); until.After(n.pausedUntil) {
		if n.pausedUntil.After(now) {
			d = until.Sub(n.pausedUntil)
		}
		n.pausedUntil = until
		n.paused += d
	}
	for q := range n.w.watch.active {
		if q.p == n.proc {
			q.disturbed = true
		}
	}
	n.w.trace(n, "paused", nil, "")
	n.w.report.Pauses++
}

// gate holds an operation for as long as its process is paused. In a dead one
// it ends in an error, with ctx or with the run.
func (p *process) gate(ctx context.Context) error {
	w := p.n.w
	for {
		w.mu.Lock()
		dead, wait := p.dead, time.Until(p.n.pausedUntil)
		if wait > 0 {
			wait += p.n.nextTurn()
		}
		w.mu.Unlock()
		if dead {
			select {
			case <-ctx.Done():
			case <-w.over:
			}
			return errDead
		}
		if wait <= 0 {
			return nil
		}
		time.Sleep(wait)
	}
}

// nextTurn keeps apart what would wake at the same instant, which synctest does
// in random order, so that a seed gives the same run each time.
func (n *node) nextTurn() time.Duration {
	n.turn = (n.turn + 1) % 1000
	return n.turn
}

// run makes the node's calls until the run is over.
func (n *node) run() {
	end := n.w.start.Add(n.w.cfg.Length)
	for {
		time.Sleep(exponential(n.calls, n.w.cfg.CallEvery))
		if !time.Now().Before(end) {
			return
		}
		n.call()
	}
}

// call is one business call as an application makes it: a token, the call,
// and once more after telling the Source that the token was refused.
func (n *node) call() {
	w := n.w
	token, ok := n.token()
	if !ok {
		return
	}
	w.mu.Lock()
	w.report.Calls++
	fine := w.platform.accepts(token, time.Now())
	if !fine {
		w.report.Rejected++
		if n.cut() {
			w.report.RejectedCut++
		}
		w.trace(n, "refused", nil, token)
	}
	p := n.proc
	w.mu.Unlock()
	if fine {
		return
	}
	err := p.source.Invalidate(p.ctx, token)
	w.mu.Lock()
	if !p.dead {
		w.countError(n, "invalidate: ", err)
	}
	w.mu.Unlock()
	if token, ok = n.token(); !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.platform.accepts(token, time.Now()) {
		w.report.RejectedTwice++
		if n.cut() {
			w.report.RejectedTwiceCut++
		}
		w.trace(n, "refused again", nil, token)
	}
}

// token asks the node's Source, once more if the process died or was paused
// meanwhile: a process that is stopped cannot have used what it got. It
// reports false after an error.
func (n *node) token() (string, bool) {
	w := n.w
	for {
		n.wait()
		w.mu.Lock()
		p, pausedBefore := n.proc, n.paused
		w.mu.Unlock()

		asked := time.Now()
		token, err := p.source.Token(p.ctx)
		got := time.Now()
		if w.cfg.Faults.UseAfterPause {
			n.wait()
		}

		w.mu.Lock()
		if p.dead || n.pausedUntil.After(time.Now()) {
			w.mu.Unlock()
			continue
		}
		w.countToken(n, token, err, got, time.Since(asked)-(n.paused-pausedBefore))
		w.mu.Unlock()
		return token.Value, err == nil
	}
}

// wait holds a caller for as long as the node is paused.
func (n *node) wait() {
	for {
		n.w.mu.Lock()
		d := time.Until(n.pausedUntil)
		if d > 0 {
			d += n.nextTurn()
		}
		n.w.mu.Unlock()
		if d <= 0 {
			return
		}
		time.Sleep(d)
	}
}

// cut reports whether the node cannot reach the store.
func (n *node) cut() bool { return n.cutUntil.After(time.Now()) }

func (w *world) countToken(n *node, t wxtoken.Token, err error, got time.Time, wait time.Duration) {
	if wait > w.report.LongestWait {
		w.report.LongestWait = wait
		w.trace(n, "longest wait", nil, wait.String())
	}
	if err != nil {
		w.report.Failed++
		w.countError(n, "", err)
		return
	}
	if w.cfg.Faults.Skew == 0 && !got.Before(t.ExpiresAt) {
		w.violation("expired", fmt.Sprintf("node %d was given a token that expired at %s", n.id, t.ExpiresAt))
	}
	if t.Value == "" {
		w.violation("empty", fmt.Sprintf("node %d was given an empty token", n.id))
	}
}

func (w *world) countError(n *node, prefix string, err error) {
	if err == nil {
		return
	}
	w.report.Errors[prefix+kindOf(err)]++
	if text := err.Error(); strings.Contains(text, tokenMark) || strings.Contains(text, secretMark) {
		w.violation("I5", "a token or the secret in an error: "+text)
	}
}

func kindOf(err error) string {
	var api *wxtoken.APIError
	var cooldown *wxtoken.CooldownError
	kind := ""
	if errors.As(err, &cooldown) {
		kind = "cooldown "
	}
	switch {
	case errors.As(err, &api):
		return fmt.Sprintf("%serrcode %d", kind, api.Code)
	case errors.Is(err, wxtoken.ErrCacheUnavailable):
		return kind + "cache unavailable"
	case errors.Is(err, context.DeadlineExceeded):
		return kind + "deadline"
	case errors.Is(err, context.Canceled):
		return kind + "cancelled"
	case errors.Is(err, errReset):
		return kind + "connection reset"
	case errors.Is(err, errIO), errors.Is(err, errCut):
		return kind + "cache error"
	}
	text := err.Error()
	return kind + text[:min(len(text), 60)]
}
