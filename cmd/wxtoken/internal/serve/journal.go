package serve

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A journal logs and counts requests. Repeated requests are logged once a minute,
// with their count, so that neither a busy client nor a hostile one fills the disk.
// It never sees a query, a header or a body, since they contain secrets.
type journal struct {
	log *slog.Logger

	mu     sync.Mutex
	counts map[counted]float64
	open   map[entry]*repeats
}

// counted identifies a counter of requests.
type counted struct {
	route  string
	status int
}

// An entry is a line of the log without count and time.
type entry struct {
	method, route, client, app, remote, err string
	status, code                            int // code is errcode
}

// repeats are the requests of one entry since it was last logged.
type repeats struct {
	since time.Time
	count int
	worst time.Duration
}

const (
	quiet   = time.Minute // an entry is logged once in this time
	entries = 20_000      // distinguished at a time
)

func newJournal(log *slog.Logger) *journal {
	return &journal{log: log, counts: map[counted]float64{}, open: map[entry]*repeats{}}
}

// add counts a request and, if it is to be logged, logs it now or later.
func (j *journal) add(e entry, took time.Duration, now time.Time, logged bool) {
	j.mu.Lock()
	j.counts[counted{e.route, e.status}]++
	if !logged {
		j.mu.Unlock()
		return
	}
	r := j.open[e]
	if r == nil && len(j.open) >= entries {
		e.client, e.app, e.remote, e.err = "", "", "", "there are too many requests of different kinds to tell them apart"
		r = j.open[e]
	}
	if r != nil {
		r.count++
		r.worst = max(r.worst, took)
		j.mu.Unlock()
		return
	}
	j.open[e] = &repeats{since: now}
	j.mu.Unlock()
	j.write(e, 1, took, 0)
}

// flush logs repeated entries and drops the others, each after a minute.
func (j *journal) flush(now time.Time, all bool) {
	j.mu.Lock()
	due := map[entry]repeats{}
	for e, r := range j.open {
		if !all && now.Sub(r.since) < quiet {
			continue
		}
		if r.count == 0 {
			delete(j.open, e)
			continue
		}
		due[e] = *r
		*r = repeats{since: now}
	}
	j.mu.Unlock()
	for e, r := range due {
		j.write(e, r.count, r.worst, now.Sub(r.since))
	}
}

// run flushes until ctx ends.
func (j *journal) run(ctx context.Context) {
	ticker := time.NewTicker(quiet / 6)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			j.flush(now, false)
		case <-ctx.Done():
			j.flush(time.Now(), true)
			return
		}
	}
}

func (j *journal) write(e entry, count int, took, over time.Duration) {
	level := slog.LevelInfo
	if e.status >= 400 || e.code != 0 {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("method", e.method), slog.String("path", e.route), slog.Int("status", e.status),
		slog.String("client", e.client), slog.String("appid", e.app),
	}
	if e.code != 0 {
		attrs = append(attrs, slog.Int("errcode", e.code))
	}
	if e.remote != "" {
		attrs = append(attrs, slog.String("remote", e.remote))
	}
	if over > 0 { // took is then the longest
		attrs = append(attrs, slog.Int("count", count), slog.Duration("over", over.Round(time.Second)))
	}
	attrs = append(attrs, slog.Duration("took", took))
	if e.err != "" {
		attrs = append(attrs, slog.String("error", e.err))
	}
	j.log.LogAttrs(context.Background(), level, "request", attrs...)
}

// totals returns the counters.
func (j *journal) totals() map[counted]float64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make(map[counted]float64, len(j.counts))
	for key, n := range j.counts {
		all[key] = n
	}
	return all
}
