package wxtoken

import (
	"context"
	"log/slog"
	"time"
)

// EventKind says what an Event tells of.
type EventKind string

const (
	// EventFetch: this process asked the platform. Err is nil if it got a token.
	EventFetch EventKind = "fetch"
	// EventAdopt: this process took over a token that another one published.
	EventAdopt EventKind = "adopt"
	// EventReject: an API refused the shared token, which will be replaced.
	EventReject EventKind = "reject"
	// EventConflict: tokens are refused again and again soon after their issue;
	// mostly another system fetches tokens for the same app. Worth an alert.
	EventConflict EventKind = "conflict"
	// EventTakeover: a process died or hung while it fetched; this one took over.
	EventTakeover EventKind = "takeover"
	// EventLeaseLost: this process was paused so long that another took over; its
	// token was not published.
	EventLeaseLost EventKind = "lease_lost"
	// EventRestore: the store went back in time, as a failover can; this process
	// wrote the newer token back.
	EventRestore EventKind = "restore"
	// EventCacheError: the cache failed, held what this process cannot read, or let
	// no process get through with a fetch. Worth an alert when it goes on.
	EventCacheError EventKind = "cache_error"
)

// An Event tells an observer what a Source did. It never holds the secret or a
// token value.
type Event struct {
	Kind EventKind
	Key  string // the record's key in the cache, prefix included

	// Duration is how long a fetch took; zero for the other kinds.
	Duration time.Duration

	// ExpiresAt is the end of the token fetched or adopted; zero for the other
	// kinds and for a fetch that failed.
	ExpiresAt time.Time

	// Err is why it failed, for EventFetch, EventConflict and EventCacheError.
	Err error
}

func (s *Source) emit(e Event) {
	e.Key = s.key
	for _, tell := range []func(Event){s.observer, s.log} {
		if tell != nil {
			tell(e)
		}
	}
}

// logTo logs events. It is called through a func, so that the linker leaves out
// most of log/slog, some 80 KB, where nobody uses WithLogger.
func logTo(l *slog.Logger) func(Event) {
	if l == nil {
		return nil
	}
	return func(e Event) {
		level := slog.LevelWarn
		switch {
		case e.Kind == EventAdopt:
			level = slog.LevelDebug
		case e.Kind == EventFetch && e.Err == nil:
			level = slog.LevelInfo
		case e.Err != nil:
			level = slog.LevelError
		}
		attrs := []slog.Attr{slog.String("key", e.Key)}
		if e.Duration > 0 {
			attrs = append(attrs, slog.Duration("duration", e.Duration))
		}
		if !e.ExpiresAt.IsZero() {
			attrs = append(attrs, slog.Time("expires_at", e.ExpiresAt))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.String("error", e.Err.Error()))
		}
		l.LogAttrs(context.Background(), level, "wxtoken: "+string(e.Kind), attrs...)
	}
}
