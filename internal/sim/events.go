package sim

import (
	"math/rand/v2"
	"sync"
	"time"
)

// startEvents starts the events that affect the store, the platform or many nodes.
func (w *world) startEvents(wg *sync.WaitGroup) {
	purpose := 10
	every := func(period time.Duration, do func(r *rand.Rand)) {
		purpose++
		r := w.rand(-1, purpose)
		if period <= 0 {
			return
		}
		next := func() time.Duration {
			if w.cfg.Faults.Fixed {
				return period
			}
			return between(r, period/2, period*3/2)
		}
		wg.Go(func() {
			for w.sleep(next()) {
				do(r)
			}
		})
	}
	f := w.cfg.Faults
	every(f.FlushEvery, func(*rand.Rand) { w.locked(w.flush) })
	every(f.FallBackEvery, func(*rand.Rand) { w.locked(func() { w.fallBack(1) }) })
	every(f.LagEvery, func(r *rand.Rand) {
		w.locked(func() { w.lag, w.lagWrites = between(r, time.Millisecond, time.Minute), 1+r.IntN(3) })
	})
	every(f.PartitionEvery, w.partition)
	every(f.SplitEvery, w.split)
	every(f.ForeignEvery, func(*rand.Rand) { w.locked(func() { w.foreignFetch() }) })
	every(f.RotateEvery, w.rotateSecret)
	every(f.DeployEvery, func(r *rand.Rand) {
		w.locked(func() {
			for _, i := range r.Perm(len(w.nodes))[:len(w.nodes)/3] {
				w.nodes[i].kill("deploy")
			}
		})
	})
	at := func(d Window, begin, end func()) {
		if d.For > 0 {
			wg.Go(func() {
				if w.sleep(d.From) {
					w.locked(begin)
				}
				if w.sleep(d.For) {
					w.locked(end)
				}
			})
		}
	}
	at(f.CacheDown, w.cacheDown, func() {})
	at(f.Outage, func() {}, func() { w.settled = time.Now() })
	if f.PingPong {
		wg.Go(w.pingPong)
	}
	wg.Go(func() {
		for w.sleep(time.Minute) {
			w.locked(w.check)
		}
	})
}

func (w *world) locked(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) flush() {
	w.store.flush()
	w.watch.storeFault = time.Now()
	w.trace(nil, "store flushed", nil, "")
	w.report.Flushes++
	w.check()
}

func (w *world) fallBack(writes int) {
	if !w.store.fallBack(writes) {
		return
	}
	w.watch.storeFault = time.Now()
	w.watch.wentBack = true
	w.watch.rec = decode(w.store.get(time.Now()))
	w.trace(nil, "store went back", w.watch.rec, "")
	w.report.FallBacks++
	w.check()
}

// failOver rolls the store back soon after the token was published, if that is
// planned: only then does a replica's lag show.
func (w *world) failOver() {
	if w.lag == 0 {
		return
	}
	lag, writes := w.lag, w.lagWrites
	w.lag = 0
	go func() {
		if w.sleep(lag) {
			w.locked(func() { w.fallBack(writes) })
		}
	}()
}

// partition cuts half of the nodes off from the store for a while.
func (w *world) partition(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	until := time.Now().Add(w.cfg.Faults.PartitionFor)
	w.blackout = r.IntN(2) == 0
	for _, i := range r.Perm(len(w.nodes))[:len(w.nodes)/2] {
		w.nodes[i].cutUntil = until
	}
	w.watch.storeFault = until
	w.trace(nil, "partition", nil, "")
	w.report.Partitions++
}

// cacheDown cuts all nodes off from the store.
func (w *world) cacheDown() {
	w.blackout = w.cfg.Faults.Silent
	for _, n := range w.nodes {
		n.cutUntil = time.Now().Add(w.cfg.Faults.CacheDown.For)
	}
	w.trace(nil, "cache down", nil, "")
}

// split gives half of the nodes another master for a while, and then one of the two
// to all.
func (w *world) split(r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	other := r.IntN(2) == 0
	for i, k := range r.Perm(len(w.nodes)) {
		w.nodes[k].away = i%2 == 0
	}
	w.store.split()
	w.watch.storeFault = time.Now().Add(w.cfg.Faults.SplitFor)
	w.trace(nil, "split", nil, "")
	w.report.Splits++
	go func() {
		if !w.sleep(w.cfg.Faults.SplitFor) {
			return
		}
		w.locked(func() {
			w.store.join(other)
			w.watch.rec = decode(w.store.get(time.Now()))
			w.watch.wentBack = true
			w.trace(nil, "joined", w.watch.rec, "")
			w.check()
		})
	}()
}

func (w *world) foreignFetch() string {
	token, _ := w.platform.issue(time.Now(), true)
	w.trace(nil, "foreign fetch", nil, token)
	w.report.Foreign++
	w.check()
	return token
}

// pingPong is a system that knows nothing of wxtoken: it makes a call every minute
// and fetches whenever its token is rejected.
func (w *world) pingPong() {
	var token string
	for w.sleep(time.Minute) {
		w.locked(func() {
			if !w.platform.accepts(token, time.Now()) {
				token = w.foreignFetch()
			}
		})
	}
}

// rotateSecret changes the secret at the platform; the nodes are redeployed with the
// new one at random times within the next three hours.
func (w *world) rotateSecret(r *rand.Rand) {
	w.mu.Lock()
	w.platform.secret++
	secret := w.platform.secret
	w.trace(nil, "secret rotated", nil, "")
	w.report.Rotations++
	delays := make([]time.Duration, len(w.nodes))
	for i := range delays {
		delays[i] = between(r, time.Minute, 3*time.Hour)
	}
	delays[0] = time.Minute // from then on one node can fetch
	w.mu.Unlock()
	for i, n := range w.nodes {
		go func() {
			if w.sleep(delays[i]) {
				w.locked(func() { n.secret = secret; n.kill("redeploy") })
			}
		}()
	}
}
