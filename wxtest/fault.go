package wxtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"
)

// Sets of requests for [Fault.On].
const (
	TokenCalls    = "token calls"
	BusinessCalls = "business calls"
)

// A Fault is something that goes wrong with a request. It hits every request until it
// is lifted, unless On, Times or Rate narrow it:
//
//	srv.Inject(wxtest.LostReply().On(wxtest.TokenPath).Times(1))
//	srv.Inject(wxtest.Denial(40001).On(wxtest.BusinessCalls).Rate(0.01)) // of good tokens
//
// A Fault is a plain value; the zero Fault does nothing. A request whose answer is
// replaced by a Fault has no effect, unless Applied is added.
type Fault struct {
	name    string
	do      outcome
	delay   time.Duration
	code    int
	status  int
	ctype   string
	body    string
	applied bool

	on    string
	times int
	rate  float64
}

type outcome int

const (
	nothing outcome = iota
	slow
	lose
	land
	denial
	replace
	truncate
)

// Latency delays each request for d before it takes effect and is answered. The delay
// ends early when the request's context ends; the request then takes effect at once,
// since it was already on its way. Several delays add up, and Latency combines with
// any other fault.
func Latency(d time.Duration) Fault {
	return Fault{name: "latency", do: slow, delay: d, rate: 1}
}

// LostReply lets the request take effect, so that a token is issued, and closes the
// connection without an answer. Note that net/http's own client resends a GET when
// that happens on a reused connection.
func LostReply() Fault { return Fault{name: "lost reply", do: lose, rate: 1} }

// LateRequest closes the connection without an answer at once, and lets the
// request take effect only d later.
func LateRequest(d time.Duration) Fault {
	return Fault{name: "late request", do: land, delay: d, rate: 1}
}

// Denial answers with an errcode and the platform's message for it, in place of the
// real answer: -1 for a busy platform, for example, or 40001 for a good token that is
// rejected anyway.
func Denial(code int) Fault {
	return Fault{name: fmt.Sprint("errcode ", code), do: denial, code: code, rate: 1}
}

// Busy is [Denial](-1), "system error": try again.
func Busy() Fault { return Denial(-1) }

// Truncated lets the request take effect and cuts its answer in half.
func Truncated() Fault { return Fault{name: "truncated", do: truncate, rate: 1} }

// Answer returns any status, content type and body in place of the real answer.
func Answer(status int, contentType, body string) Fault {
	return Fault{name: "answer", do: replace, status: status, ctype: contentType, body: body, rate: 1}
}

// ServerError answers with an HTTP status such as 502, and a gateway's page.
func ServerError(status int) Fault {
	text := fmt.Sprint(status, " ", http.StatusText(status))
	return Answer(status, "text/html", "<html><head><title>"+text+"</title></head></html>\n").named("server error")
}

// CaptivePortal answers with status 200 and the page of a portal that wants the
// user to log in to the network.
func CaptivePortal() Fault {
	return Answer(http.StatusOK, "text/html; charset=utf-8",
		"<!DOCTYPE html><html><head><title>Log in to the network</title></head><body>…</body></html>\n").named("captive portal")
}

// EmptyBody answers with status 200 and no body.
func EmptyBody() Fault { return Answer(http.StatusOK, "text/html", "").named("empty body") }

func (f Fault) named(name string) Fault { f.name = name; return f }

// String is the name under which [Stats] counts the fault, such as "lost reply".
func (f Fault) String() string { return f.name }

// On narrows the fault to [TokenCalls], to [BusinessCalls] or to one path.
func (f Fault) On(where string) Fault { f.on = where; return f }

// Times ends the fault after it has hit n requests; 0 means no limit.
func (f Fault) Times(n int) Fault { f.times = n; return f }

// Rate makes the fault hit each request with a probability from 0 to 1.
func (f Fault) Rate(probability float64) Fault { f.rate = probability; return f }

// Applied lets the request take effect before its answer is replaced, as when a
// gateway fails on the way back.
func (f Fault) Applied() Fault { f.applied = true; return f }

func (f Fault) covers(path string) bool {
	switch f.on {
	case "", path:
		return true
	case TokenCalls:
		return isTokenPath(path)
	case BusinessCalls:
		return !isTokenPath(path)
	}
	return false
}

// An injected is a Fault in force.
type injected struct {
	Fault
	struck int
}

// Inject puts a fault in force and returns a function that lifts it. If several
// faults cover a request, the one injected first hits it.
func (p *Platform) Inject(f Fault) (lift func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in := &injected{Fault: f}
	p.faults = append(p.faults, in)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.faults = slices.DeleteFunc(p.faults, func(g *injected) bool { return g == in })
	}
}

// draw decides which faults hit a request: a delay and at most one other.
func (p *Platform) draw(path string) (delay time.Duration, f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, in := range p.faults {
		switch {
		case !in.covers(path), in.times > 0 && in.struck >= in.times:
			continue
		case in.do != slow && f.do != nothing:
			continue
		case in.rate < 1 && p.rng.Float64() >= in.rate:
			continue
		}
		in.struck++
		p.stats.Faults[in.name]++
		if in.do == slow {
			delay += in.delay
		} else {
			f = in.Fault
		}
	}
	return delay, f
}

// ServeHTTP answers as the platform does, host and scheme aside. A fault that
// loses the answer panics with http.ErrAbortHandler, for which net/http closes
// the connection.
func (p *Platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	delay, f := p.draw(r.URL.Path)
	sleep(r.Context(), delay)
	switch f.do {
	case nothing:
		p.serve(w, r)
	case lose:
		p.serve(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case land:
		p.serveLate(r, f.delay)
		panic(http.ErrAbortHandler)
	case truncate:
		rec := httptest.NewRecorder()
		p.serve(rec, r)
		write(w, rec.Code, rec.Header().Get("Content-Type"), rec.Body.Bytes()[:rec.Body.Len()/2])
	default:
		p.serveReplaced(w, r, f)
	}
}

func (p *Platform) serveReplaced(w http.ResponseWriter, r *http.Request, f Fault) {
	switch {
	case f.applied:
		p.serve(httptest.NewRecorder(), r)
	case f.do == denial:
		p.count(r.URL.Path, f.code)
	default:
		p.count(r.URL.Path, Spoiled)
	}
	if f.do == denial {
		writeCode(w, r, f.code)
		return
	}
	write(w, f.status, f.ctype, []byte(f.body))
}

// serveLate lets r take effect after d, unless the platform is closed first.
func (p *Platform) serveLate(r *http.Request, d time.Duration) {
	body, _ := io.ReadAll(r.Body)
	r = r.Clone(context.WithoutCancel(r.Context()))
	r.Body = io.NopCloser(bytes.NewReader(body))

	p.mu.Lock()
	defer p.mu.Unlock()
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		p.mu.Lock()
		_, wanted := p.late[t]
		delete(p.late, t)
		p.mu.Unlock()
		if wanted {
			p.serve(httptest.NewRecorder(), r)
		}
	})
	p.late[t] = struct{}{}
}

// forgetLate drops the requests that have not taken effect yet.
func (p *Platform) forgetLate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := range p.late {
		t.Stop()
	}
	clear(p.late)
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
