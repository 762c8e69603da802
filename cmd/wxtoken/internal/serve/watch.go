package serve

import (
	"slices"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/observe"
)

// A watch remembers what happened to one token since this process started, for the
// metrics and the page.
type watch struct {
	seconds *histogram // of all apps: how long fetches took

	mu sync.Mutex
	history
}

// A history is what a watch remembers.
type history struct {
	Fetches []uint64    // by place in observe.Results
	Events  []uint64    // by place in observe.Kinds
	Last    []time.Time // the same

	End      time.Time // of the newest token that is known; zero: none, or an API rejected it
	Fetched  time.Time // when the newest token arrived
	Ours     bool      // this process fetched it; otherwise it adopted it
	Failed   time.Time // when a fetch last failed
	Why      error     // the last fetch failed; nil: it succeeded
	CacheErr error     // the last one
}

func newWatch(seconds *histogram) *watch {
	kinds := len(observe.Kinds())
	return &watch{seconds: seconds, history: history{
		Fetches: make([]uint64, len(observe.Results())), Events: make([]uint64, kinds), Last: make([]time.Time, kinds),
	}}
}

// observe is a wxtoken.WithObserver.
func (w *watch) observe(e wxtoken.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if i := slices.Index(observe.Kinds(), e.Kind); i >= 0 {
		w.Events[i] += uint64(max(e.Count, 1))
		w.Last[i] = now
	}
	switch {
	case e.Kind == wxtoken.EventFetch:
		w.Fetches[slices.Index(observe.Results(), observe.Result(e.Err))]++
		w.seconds.observe(e.Duration.Seconds())
		if w.Why = e.Err; e.Err != nil {
			w.Failed = now
			return
		}
		w.End, w.Fetched, w.Ours = e.ExpiresAt, now, true
	case e.Kind == wxtoken.EventAdopt:
		w.End, w.Fetched, w.Ours = e.ExpiresAt, now, false
	case e.Kind == wxtoken.EventReject:
		w.End = time.Time{}
	case e.Kind == wxtoken.EventCacheError:
		w.CacheErr = e.Err
	}
}

// snapshot returns a copy.
func (w *watch) snapshot() history {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.history
	h.Fetches, h.Events, h.Last = slices.Clone(h.Fetches), slices.Clone(h.Events), slices.Clone(h.Last)
	return h
}

// last returns when an event of this kind was last seen; zero: never.
func (h history) last(kind wxtoken.EventKind) time.Time {
	return h.Last[slices.Index(observe.Kinds(), kind)]
}

// count returns the number of events of this kind.
func (h history) count(kind wxtoken.EventKind) uint64 {
	return h.Events[slices.Index(observe.Kinds(), kind)]
}
