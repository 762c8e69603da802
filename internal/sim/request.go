package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/bridge"
)

var errReset = errors.New("sim: connection reset by peer")

const secretMark = "SIMSECRET_"

// A line is a process's connection to the platform. It is an http.RoundTripper for
// the library's own fetchers, and a Fetcher that works without HTTP.
type line struct{ p *process }

// repeatable marks stable_token's fetcher, as Source documents it.
type repeatable struct{ line }

func (repeatable) Repeatable() bool { return true }

// byHTTP is one of the library's own fetchers, of a member of the fleet.
type byHTTP struct {
	*wxtoken.HTTPFetcher
	line line
}

func (f byHTTP) Member() bridge.Name { return f.line.Member() }

// Member names the machine, or the row of processes that start one after the other.
func (l line) Member() bridge.Name {
	if l.p.n.m.Lives != nil {
		return bridge.Name(fmt.Sprint("row-", l.p.n.id/1_000_000))
	}
	return bridge.Name(fmt.Sprint("machine-", l.p.n.id))
}

// fetcher returns the Fetcher that the configuration asks for.
func (l line) fetcher() wxtoken.Fetcher {
	cfg := &l.p.n.w.cfg
	client := wxtoken.WithHTTPClient(&http.Client{Transport: l})
	secret := fmt.Sprint(secretMark, l.p.secret)
	switch {
	case cfg.Grace == WeCom || cfg.Grace == WeComEnd: // known by its fetcher
		return byHTTP{wxtoken.NewWeComFetcher("sim", secret, client), l}
	case cfg.HTTP && cfg.Grace.repeats():
		return byHTTP{wxtoken.NewStableFetcher("sim", secret, client), l}
	case cfg.HTTP:
		return byHTTP{wxtoken.NewFetcher("sim", secret, client), l}
	case cfg.Grace.repeats() && !cfg.Unmarked:
		return repeatable{l}
	}
	return l
}

// Key names the credential.
func (line) Key() string { return "token:sim" }

// Fetch asks the platform.
func (l line) Fetch(ctx context.Context) (wxtoken.Token, error) {
	g, q, err := l.ask(ctx)
	if err != nil {
		return wxtoken.Token{}, err
	}
	return wxtoken.Token{Value: g.token, ExpiresAt: q.called.Add(time.Duration(g.expiresIn) * time.Second)}, nil
}

// RoundTrip is Fetch, in the platform's JSON.
func (l line) RoundTrip(req *http.Request) (*http.Response, error) {
	g, _, err := l.ask(req.Context())
	body := fmt.Sprintf(`{"access_token":%q,"expires_in":%d}`, g.token, g.expiresIn)
	var denial *wxtoken.APIError
	if errors.As(err, &denial) {
		body = fmt.Sprintf(`{"errcode":%d,"errmsg":%q}`, denial.Code, denial.Message)
	} else if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}

// A request is one fetch, from its call until its outcome is in the record.
type request struct {
	p         *process
	ctx       context.Context // the process has given it up when this ends
	lease     string          // held when it was called
	called    time.Time
	landed    time.Time // at the platform
	returned  time.Time // to the Source
	token     string
	number    int  // of its group's
	disturbed bool // by a fault that explains a second fetch
}

// fate is what happens to a request; it is drawn beforehand.
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
	if l := n.w.cfg.Latency; l > 0 {
		t.out, t.back = l/2, l/2
	}
	return t
}

// ask makes one request. A paused process sends it even if ctx ended meanwhile: it
// was stopped between the check and the write.
func (l line) ask(ctx context.Context) (grant, *request, error) {
	p, n, w := l.p, l.p.n, l.p.n.w
	if err := p.gate(ctx); err != nil {
		return grant{}, nil, err
	}
	if err := ctx.Err(); err != nil {
		return grant{}, nil, err
	}
	w.mu.Lock()
	t := n.fate()
	q := w.called(ctx, p)
	if t.before {
		n.pause(n.fetches)
	}
	w.mu.Unlock()
	if err := p.gate(ctx); err != nil {
		w.locked(func() { delete(w.watch.active, q) })
		return grant{}, nil, err
	}
	g, err := l.send(ctx, q, t)
	if err := p.gate(ctx); err != nil {
		return grant{}, nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil && t.silent {
		g, err = grant{}, ctx.Err()
	}
	w.answered(q, err)
	return g, q, err
}

// send carries the request to the platform and its answer back.
func (l line) send(ctx context.Context, q *request, t fate) (g grant, err error) {
	n, w := l.p.n, l.p.n.w
	if l := n.m.Lives; l != nil && l.Kills > 0 && q.number%l.Kills == 0 {
		time.AfterFunc(between(n.fetches, 0, t.out+t.back), func() { w.locked(n.end) })
	}
	if a := n.ailment(); a != nil {
		return l.sendBadly(ctx, q, t, a)
	}
	if t.late && !t.busy {
		return l.sendLate(ctx, q, t)
	}
	time.Sleep(t.out)
	w.mu.Lock()
	g, err = w.land(q, t.busy)
	if err == nil && t.crash && !l.p.dead {
		n.kill("crash after issue")
	}
	w.mu.Unlock()
	if err == nil && t.lost {
		return grant{}, lostReply(ctx, q, t)
	}
	time.Sleep(t.back)
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.after && !l.p.dead {
		n.pause(n.fetches)
	}
	return g, err
}

// ailment returns what is wrong with the node's requests now; nil if nothing.
func (n *node) ailment() *Ailment {
	f := &n.w.cfg.Faults
	if at := time.Since(n.w.start); f.Outage.From <= at && at < f.Outage.From+f.Outage.For {
		return &f.OutageIs
	}
	return n.m.Ails
}

// sendBadly sends a request over a bad connection.
func (l line) sendBadly(ctx context.Context, q *request, t fate, a *Ailment) (grant, error) {
	w := l.p.n.w
	time.Sleep(t.out)
	w.locked(func() {
		if q.landed = time.Now(); a.Lands { // otherwise there is nothing to settle
			_, _ = w.land(q, false)
		}
		q.disturbed = true
	})
	if a.Silent {
		<-ctx.Done()
		return grant{}, ctx.Err()
	}
	time.Sleep(t.back)
	return grant{}, a.Err
}

// sendLate sends a request that is delayed: its process gives it up, or gets a
// connection error, and it still arrives.
func (l line) sendLate(ctx context.Context, q *request, t fate) (grant, error) {
	w := l.p.n.w
	type answer struct {
		grant
		err error
	}
	arrived := make(chan answer, 1)
	w.locked(func() { w.report.LateRequests++; q.disturbed = true })
	go func() {
		time.Sleep(t.delay)
		w.mu.Lock()
		defer w.mu.Unlock()
		g, err := w.land(q, false)
		arrived <- answer{g, err}
	}()
	if !t.silent {
		time.Sleep(t.out)
		return grant{}, errReset
	}
	select {
	case a := <-arrived:
		return a.grant, a.err
	case <-ctx.Done():
		return grant{}, ctx.Err()
	}
}

// lostReply loses an answer.
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
