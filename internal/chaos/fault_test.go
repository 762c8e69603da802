//go:build linux

package chaos

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"syscall"
	"time"

	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A fault does its damage on the test's goroutine. What lasts longer is ended by
// round.after, while other faults go on.
type fault struct {
	kind string
	do   func(*round)
}

const (
	kindKill        = "SIGKILL"
	kindStop        = "SIGSTOP"
	kindStall       = "machine too busy"
	kindCut         = "network cut"
	kindLongCut     = "network cut, longer than the grace"
	kindBlackHole   = "network black hole"
	kindDrop        = "replies dropped"
	kindPlatformCut = "platform cut off"
	kindEnd         = "short life over"

	kindRedisDown     = "Redis killed, restarted empty"
	kindMemcachedDown = "Memcached killed, restarted"
	kindSentinel      = "Sentinel failover"
	kindCluster       = "Cluster failover"
)

// isolates reports whether the fault keeps a worker from the platform, from the
// cache or from running, for as long as it lasts.
func (in injection) isolates(id int) bool {
	switch in.kind {
	case kindKill, kindStop, kindCut, kindLongCut, kindBlackHole, kindDrop:
		return slices.Contains(in.workers, id)
	case kindStall:
		return len(in.workers) == 0 || slices.Contains(in.workers, id)
	case kindPlatformCut, kindRedisDown, kindMemcachedDown, kindSentinel, kindCluster:
		return true
	}
	return false
}

// atOnce are the faults that can happen on every backend at any time.
func atOnce() []fault {
	return []fault{
		{kindKill, func(r *round) { r.killFor(r.anyWorker(), r.span(0, time.Second)) }},
		{kindStop, func(r *round) { r.stopFor(r.anyWorker(), r.pause()) }},
		{kindCut, func(r *round) {
			r.disconnect(kindCut, (*servers.FaultProxy).Cut, r.span(200*time.Millisecond, 4*time.Second))
		}},
		{kindBlackHole, func(r *round) {
			r.disconnect(kindBlackHole, (*servers.FaultProxy).BlackHole, r.span(200*time.Millisecond, 3*time.Second))
		}},
		{kindDrop, func(r *round) {
			n := 1 + r.rng.IntN(4)
			r.disconnect(kindDrop, func(p *servers.FaultProxy) { p.DropReplies(n) }, 500*time.Millisecond)
		}},
		{kindPlatformCut, func(r *round) {
			end := r.begin(kindPlatformCut)
			r.front.Cut()
			r.after(r.span(200*time.Millisecond, 3*time.Second), func() {
				r.front.Heal()
				end()
			})
		}},
	}
}

// onFetches strike the next process that fetches, or its fetch.
func onFetches() []fault {
	spoil := func(f func(r *round) wxtest.Fault) fault {
		return fault{"", func(r *round) { r.onNextFetch(f(r), func(*worker) {}) }}
	}
	strike := func(do func(r *round, w *worker, d time.Duration), lasts func(r *round) time.Duration) fault {
		return fault{"", func(r *round) {
			d, within := lasts(r), r.span(0, fetchTimeout/4)
			r.onNextFetch(wxtest.Latency(fetchTimeout/2), func(w *worker) {
				time.Sleep(within)
				do(r, w, d)
			})
		}}
	}
	return []fault{
		strike((*round).killFor, func(r *round) time.Duration { return r.span(0, time.Second) }),
		strike((*round).stopFor, (*round).pause),
		spoil(func(*round) wxtest.Fault { return wxtest.LostReply() }),
		spoil(func(r *round) wxtest.Fault {
			return wxtest.LateRequest(r.span(100*time.Millisecond, 1200*time.Millisecond))
		}),
		spoil(func(*round) wxtest.Fault { return wxtest.Busy() }),
		spoil(func(*round) wxtest.Fault { return wxtest.ServerError(http.StatusBadGateway).Applied() }), // a token was issued
		spoil(func(*round) wxtest.Fault { return wxtest.Latency(fetchTimeout * 3 / 2) }),
	}
}

// longFault needs more time than a short round has.
func longFault() fault {
	return fault{kindLongCut, func(r *round) {
		r.disconnect(kindLongCut, (*servers.FaultProxy).Cut, grace+r.span(time.Second, 4*time.Second))
	}}
}

// pause is how long a stopped process stays so: always longer than a lease, and
// now and then longer than a superseded token lives.
func (r *round) pause() time.Duration {
	if r.rng.IntN(5) == 0 && !r.cfg.short {
		return r.span(grace+time.Second, grace+3*time.Second)
	}
	return r.span(2*fetchTimeout, 4*time.Second)
}

// killFor kills w, unless something else befalls it, and starts it again after a
// while. Any goroutine may call it, and stopFor.
func (r *round) killFor(w *worker, down time.Duration) {
	r.strike(w, kindKill, down, func() { w.signal(syscall.SIGKILL) }, r.restart(w))
}

func (r *round) stopFor(w *worker, d time.Duration) {
	r.strike(w, kindStop, d, func() { w.signal(syscall.SIGSTOP) }, func() { w.signal(syscall.SIGCONT) })
}

func (r *round) restart(w *worker) func() {
	return func() {
		if err := w.start(); err != nil {
			r.t.Error(err)
		}
	}
}

func (r *round) strike(w *worker, kind string, d time.Duration, do, undo func()) {
	hold := fmt.Sprint("process ", w.id)
	if !r.reserve(hold) {
		return
	}
	end := r.begin(kind, w.id)
	do()
	r.after(d, func() {
		undo()
		end()
		r.release(hold)
	})
}

// shortLives ends w again and again, until over is closed: by SIGKILL, or by
// returning from main.
func (r *round) shortLives(w *worker, over <-chan struct{}) {
	rng := rand.New(rand.NewPCG(r.cfg.seed, uint64(w.id)))
	for i := 0; ; i++ {
		select {
		case <-over:
			return
		case <-time.After(3*time.Second + time.Duration(rng.Float64()*float64(7*time.Second))):
		}
		r.strike(w, kindEnd, time.Duration(rng.Float64()*float64(time.Second)), func() {
			if i%2 == 0 {
				w.signal(syscall.SIGKILL)
			} else if err := w.finish(); err != nil {
				r.t.Error(err)
			}
		}, r.restart(w))
	}
}

// spoiler is a proxy before the platform that loses the query of a request for a
// token, or answers 502 in its place.
func (r *round) spoiler() http.Handler {
	front := &httputil.ReverseProxy{Rewrite: func(req *httputil.ProxyRequest) {
		req.SetURL(&url.URL{Scheme: "http", Host: r.front.Addr()})
		if req.In.URL.Path == wxtest.TokenPath {
			req.Out.URL.RawQuery = ""
		}
	}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == wxtest.TokenPath && r.count("spoiled requests")%2 == 0 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		front.ServeHTTP(w, req)
	})
}

// onNextFetch has f strike once. The platform counts how often it did.
func (r *round) onNextFetch(f wxtest.Fault, and func(*worker)) {
	lift := r.platform.Inject(f.On(wxtest.TokenCalls).Times(1))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lifts = append(r.lifts, lift)
	r.armed = append(r.armed, and)
}

// disconnect does harm to the connections of some workers, not of all.
func (r *round) disconnect(kind string, harm func(*servers.FaultProxy), d time.Duration) {
	for _, i := range r.rng.Perm(processes)[:1+r.rng.IntN(3)] {
		w := r.workers[i]
		hold := fmt.Sprint("network of ", w.id)
		if !r.reserve(hold) {
			continue
		}
		end := r.begin(kind, w.id)
		for _, p := range w.proxy {
			harm(p)
		}
		r.after(d, func() {
			for _, p := range w.proxy {
				p.Heal()
			}
			end()
			r.release(hold)
		})
	}
}
