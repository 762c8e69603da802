package sim

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode"

	"github.com/wxtoken/wxtoken"
)

// call makes one business call as an application does: a token, the call, and a retry
// after Invalidate if the token was rejected.
func (n *node) call() {
	w, began := n.w, time.Now()
	n.failed = true
	p, token := n.token(began)
	if p == nil {
		return
	}
	w.locked(func() { w.report.Calls++ })
	if n.failed = !n.use(token, began, "rejected", &w.report.Rejected, &w.report.RejectedCut); !n.failed {
		return
	}
	err := p.source.Invalidate(p.ctx, token)
	w.mu.Lock()
	if !p.dead {
		w.countError("invalidate: ", err)
	}
	w.mu.Unlock()
	if p, token = n.token(began); p != nil {
		n.failed = !n.use(token, began, "rejected again", &w.report.RejectedTwice, &w.report.RejectedTwiceCut)
	}
}

// use makes the business call, and counts it if the token is rejected.
func (n *node) use(token string, began time.Time, what string, rejected, cut *int) bool {
	w := n.w
	w.mu.Lock()
	defer w.mu.Unlock()
	n.last = token
	if w.platform.accepts(token, time.Now()) {
		n.g.gets(&n.g.used, began)
		return true
	}
	*rejected++
	if n.cut() {
		*cut++
	}
	w.trace(n, what, nil, token)
	return false
}

// token asks the node's Source, and again if the process died or was paused
// meanwhile: a stopped process cannot have used what it got. It returns the process
// that got a token, or nil after an error.
func (n *node) token(began time.Time) (*process, string) {
	w := n.w
	for {
		n.wait()
		w.mu.Lock()
		p, pausedBefore, ended := n.proc, n.paused, n.ended
		n.g.wants(&n.g.token, began)
		n.g.wants(&n.g.used, began)
		w.mu.Unlock()
		if ended {
			return nil, ""
		}

		asked := time.Now()
		token, err := p.token(n.m.Patience)
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
		if err != nil {
			w.trace(n, "Token fails: "+kindOf(err), nil, "")
			p = nil
		} else {
			n.g.gets(&n.g.token, began)
		}
		w.mu.Unlock()
		return p, token.Value
	}
}

func (p *process) token(patience time.Duration) (wxtoken.Token, error) {
	ctx := p.ctx
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	if !p.n.w.cfg.Bytes {
		return p.source.Token(ctx)
	}
	before := allocated()
	t, err := p.source.Token(ctx)
	after := allocated()
	p.n.w.locked(func() { p.n.w.report.BytesPeak = max(p.n.w.report.BytesPeak, after-before) })
	return t, err
}

// allocated returns how many bytes this program has allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// wait blocks a caller while the node is paused.
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
		w.countError("", err)
		return
	}
	if w.cfg.Faults.Skew == 0 && !got.Before(t.ExpiresAt) {
		w.violation("expired", fmt.Sprintf("node %d was given a token that expired at %s", n.id, t.ExpiresAt))
	}
	if t.Value == "" {
		w.violation("empty", fmt.Sprintf("node %d was given an empty token", n.id))
	}
}

func (w *world) countError(prefix string, err error) {
	if err == nil {
		return
	}
	w.report.Errors[prefix+kindOf(err)]++
	w.checkText("an error", err.Error())
}

// checkText checks I5, and that no foreign text breaks a log.
func (w *world) checkText(what, text string) {
	if strings.Contains(text, tokenMark) || strings.Contains(text, secretMark) {
		w.violation("I5", "a token or the secret in "+what+": "+text)
	}
	odd := func(c rune) bool { return c != '\n' && unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }
	if len(text) > 4<<10 || strings.ContainsFunc(text, odd) {
		w.violation("text", fmt.Sprintf("%s of %d bytes: %.200q", what, len(text), text))
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
