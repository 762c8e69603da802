//go:build linux

package chaos

import (
	"net/http"
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

// Kinds that the tally asks for.
const (
	kindCut         = "network cut"
	kindLongCut     = "network cut, longer than the grace"
	kindBlackHole   = "network black hole"
	kindPlatformCut = "platform cut off"

	kindRedisDown     = "Redis killed, restarted empty"
	kindMemcachedDown = "Memcached killed, restarted"
	kindSentinel      = "Sentinel failover"
	kindCluster       = "Cluster failover"

	platformPrefix = "platform: " // of those that the platform counts itself
)

// atOnce are the faults that can happen on every backend at any time.
func atOnce() []fault {
	return []fault{
		{"SIGKILL", func(r *round) { r.killFor(r.anyWorker(), "SIGKILL", r.span(0, time.Second)) }},
		{"SIGSTOP", func(r *round) { r.stopFor(r.anyWorker(), "SIGSTOP", r.pause()) }},
		{kindCut, func(r *round) {
			r.disconnect(kindCut, (*servers.FaultProxy).Cut, r.span(200*time.Millisecond, 4*time.Second))
		}},
		{kindBlackHole, func(r *round) {
			r.disconnect(kindBlackHole, (*servers.FaultProxy).BlackHole, r.span(200*time.Millisecond, 3*time.Second))
		}},
		{"replies dropped", func(r *round) {
			n := 1 + r.rng.IntN(4)
			drop := func(p *servers.FaultProxy) { p.DropReplies(n) }
			r.disconnect("replies dropped", drop, 500*time.Millisecond)
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
	spoil := func(name string, f func(r *round) wxtest.Fault) fault {
		return fault{name, func(r *round) { r.onNextFetch(f(r), func(*worker) {}) }}
	}
	return []fault{
		{"SIGKILL in mid-fetch", func(r *round) {
			down := r.span(0, time.Second)
			r.inMidFetch(func(w *worker) { r.killFor(w, "SIGKILL in mid-fetch", down) })
		}},
		{"SIGSTOP in mid-fetch", func(r *round) {
			pause := r.pause()
			r.inMidFetch(func(w *worker) { r.stopFor(w, "SIGSTOP in mid-fetch", pause) })
		}},
		spoil("reply lost", func(*round) wxtest.Fault { return wxtest.LostReply() }),
		spoil("request late", func(r *round) wxtest.Fault {
			return wxtest.LateRequest(r.span(100*time.Millisecond, 1200*time.Millisecond))
		}),
		spoil("busy", func(*round) wxtest.Fault { return wxtest.Busy() }),
		spoil("gateway error", func(*round) wxtest.Fault {
			return wxtest.ServerError(http.StatusBadGateway).Applied() // a token was issued
		}),
		spoil("slow answer", func(*round) wxtest.Fault { return wxtest.Latency(fetchTimeout * 3 / 2) }),
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

// killFor kills w, unless it is down, and starts it again after a while. Any
// goroutine may call it, and stopFor.
func (r *round) killFor(w *worker, kind string, down time.Duration) {
	if !r.seize(w) {
		return
	}
	end := r.begin(kind, w.id)
	w.kill()
	r.after(down, func() {
		if err := w.start(); err != nil {
			r.t.Error(err)
		}
		end()
		r.release(w)
	})
}

func (r *round) stopFor(w *worker, kind string, d time.Duration) {
	if !r.seize(w) {
		return
	}
	end := r.begin(kind, w.id)
	w.stop()
	r.after(d, func() {
		w.resume()
		end()
		r.release(w)
	})
}

// inMidFetch makes the next fetch a slow one and strikes its process meanwhile.
func (r *round) inMidFetch(strike func(*worker)) {
	within := r.span(0, fetchTimeout/4)
	r.onNextFetch(wxtest.Latency(fetchTimeout/2), func(w *worker) {
		time.Sleep(within)
		strike(w)
	})
}

// onNextFetch has f strike once. The platform counts how often it did.
func (r *round) onNextFetch(f wxtest.Fault, and func(*worker)) {
	f = f.On(wxtest.TokenCalls).Times(1)
	lift := r.platform.Inject(f)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lifts = append(r.lifts, lift)
	r.armed = append(r.armed, func(w *worker) {
		r.begin(platformPrefix+f.String(), w.id)()
		and(w)
	})
}

// disconnect does harm to the connections of some workers, not of all.
func (r *round) disconnect(kind string, harm func(*servers.FaultProxy), d time.Duration) {
	for _, i := range r.rng.Perm(len(r.workers))[:1+r.rng.IntN(3)] {
		w := r.workers[i]
		if !r.unplug(w) {
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
			r.plug(w)
		})
	}
}
