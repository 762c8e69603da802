package wxtoken

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// EventKind identifies what happened.
type EventKind string

const (
	// EventFetch: this process asked the platform. Err is nil if it got a token.
	EventFetch EventKind = "fetch"
	// EventAdopt: this process read a token that another one published.
	EventAdopt EventKind = "adopt"
	// EventReject: an API rejected the shared token, which will be replaced. Err says
	// what that means.
	EventReject EventKind = "reject"
	// EventIgnored: a rejection was not believed; Err says why and until when. At
	// most once a minute per Source.
	EventIgnored EventKind = "ignored"
	// EventConflict: tokens are rejected again and again soon after their issue,
	// usually because another system fetches tokens for the same app. Worth an alert.
	// At most once a minute per Source.
	EventConflict EventKind = "conflict"
	// EventTakeover: a process died or hung while it fetched; this one took over. If
	// that happens again and again to processes that are started in the same way, they
	// wait longer before each fetch, and the others go first. That takes a fetcher with
	// a fixed secret that is not repeatable.
	EventTakeover EventKind = "takeover"
	// EventLeaseLost: this process was paused so long that another took over; its
	// token was not published.
	EventLeaseLost EventKind = "lease_lost"
	// EventRestore: the store lost its latest writes, as a failover can cause; this
	// process wrote the newer token back.
	EventRestore EventKind = "restore"
	// EventCacheError: the cache failed, lost the record, holds something that this
	// process cannot read, or let no process complete a fetch. Worth an alert if it
	// persists.
	EventCacheError EventKind = "cache_error"
)

// An Event says what a [Source] did. It never contains the secret or a
// token.
type Event struct {
	Kind EventKind
	Key  string // the record's key in the cache, prefix included

	// Duration is how long a fetch took; zero for the other kinds.
	Duration time.Duration

	// ExpiresAt is the expiry of the token fetched or adopted; zero for the other
	// kinds and for a fetch that failed.
	ExpiresAt time.Time

	// Age is the age of the rejected token, for EventReject, EventIgnored and
	// EventConflict; zero for the other kinds.
	Age time.Duration

	// Count is the number of occurrences that this Event stands for, at least 1.
	Count int

	// Err is the cause of a failure, for EventFetch and EventCacheError, or what is
	// known about a rejection, for EventReject, EventIgnored and EventConflict.
	Err error
}

// Level returns the level at which [WithLogger] logs e: Debug for an adopted token,
// Info for a fetched one, Error for a failed fetch, a conflict or a cache error, and
// Warn for the rest. Observers that log by other means can use it too.
func (e Event) Level() slog.Level {
	switch e.Kind {
	case EventAdopt:
		return slog.LevelDebug
	case EventFetch:
		if e.Err == nil {
			return slog.LevelInfo
		}
		return slog.LevelError
	case EventConflict, EventCacheError:
		return slog.LevelError
	}
	return slog.LevelWarn
}

var errRecordLost = errors.New("wxtoken: the cache lost the record; this process wrote its copy back, and a new token is fetched in a few minutes: check the cache's memory, eviction policy and restarts")

// mutes limits the kinds of Event that are sent at most once a minute, and has
// EventCacheError during an outage, which is logged once. Most Sources never send
// one of them: nil until the first.
type mutes map[EventKind]mute

type mute struct {
	until time.Time
	count int // since the last Event
}

// pass counts an occurrence and reports whether to send an Event, which then stands
// for count of them.
func (m *mutes) pass(kind EventKind, now time.Time) (count int, ok bool) {
	if *m == nil {
		*m = mutes{}
	}
	last := (*m)[kind]
	last.count++
	if ok = !now.Before(last.until); ok {
		count, last = last.count, mute{until: now.Add(time.Minute)}
	}
	(*m)[kind] = last
	return count, ok
}

// emit delivers e to the observer and the log.
func (s *Source) emit(e Event) {
	e.Key, e.Count = s.key, max(e.Count, 1)
	s.mu.Lock()
	deliver, repeats := true, false
	switch e.Kind {
	case EventIgnored, EventConflict:
		e.Count, deliver = s.mutes.pass(e.Kind, time.Now())
	case EventCacheError:
		_, repeats = s.mutes[e.Kind]
		s.mutes.pass(e.Kind, time.Now())
	}
	s.mu.Unlock()
	if deliver && s.observer != nil {
		s.observer(e)
	}
	if deliver && s.log != nil && !repeats {
		s.log(e)
	}
}

// logTo logs events. It is called through a func value, so that the linker leaves
// most of log/slog, about 80 KB, out of programs without WithLogger.
func logTo(l *slog.Logger) func(Event) {
	if l == nil {
		return nil
	}
	return func(e Event) {
		attrs := []slog.Attr{slog.String("key", e.Key)}
		if e.Duration > 0 {
			attrs = append(attrs, slog.Int64("duration_ms", e.Duration.Milliseconds()))
		}
		if !e.ExpiresAt.IsZero() {
			attrs = append(attrs, slog.Time("expires_at", e.ExpiresAt))
		}
		if e.Age > 0 {
			attrs = append(attrs, slog.Int64("age_ms", e.Age.Milliseconds()))
		}
		if e.Count > 1 {
			attrs = append(attrs, slog.Int("count", e.Count))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.String("error", e.Err.Error()))
		}
		l.LogAttrs(context.Background(), e.Level(), "wxtoken: "+string(e.Kind), attrs...)
	}
}
