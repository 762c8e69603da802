package openplatform

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/guard"
)

const (
	keptFor    = 365 * 24 * time.Hour // an authorization, since it was last written
	renewAfter = 30 * 24 * time.Hour  // when it is rewritten although nothing changed
	storeCall  = 5 * time.Second      // one call of an application's RefreshTokens
	manyEvents = 8                    // that are remembered to recognize replays
)

// An authorization is what the cache keeps of an authorizer, besides the record of
// its token.
type authorization struct {
	Refresh string   `json:"refresh_token,omitempty"` // unless the application has a store of its own
	SavedAt int64    `json:"saved_at,omitempty"`      // unix seconds, when Refresh was saved
	Code    string   `json:"code,omitempty"`          // pushed, and not exchanged yet
	Ended   bool     `json:"ended,omitempty"`         // by an unauthorized push
	EventAt int64    `json:"event_at,omitempty"`      // CreateTime of the last push that counted
	Events  []string `json:"events,omitempty"`        // digests of the last ones
	Early   string   `json:"early,omitempty"`         // digest of the last code that was exchanged, until it is pushed too
}

func (a *authorizer) name() string { return "authorization:" + a.p.appID + ":" + a.appID }

// load returns what is stored, with the refresh token, wherever that is kept.
func (a *authorizer) load(ctx context.Context) (stored[authorization], error) {
	v, err := get[authorization](ctx, &a.p.store, a.name())
	if err != nil || a.p.saved == nil {
		return v, err
	}
	v.value.Refresh, err = a.loadSaved(ctx)
	return v, err
}

func (a *authorizer) loadSaved(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, storeCall)
	defer cancel()
	refresh, err := guard.Call(ctx, "RefreshTokens.Load", func(ctx context.Context) (string, error) {
		return a.p.saved.Load(ctx, a.appID)
	})
	if err != nil {
		return "", fmt.Errorf("wxtoken: loading the refresh token of %s: %w", a.appID, err)
	}
	if !printable(refresh) {
		return "", fmt.Errorf("wxtoken: the refresh token that RefreshTokens has for %s holds a space, a control byte or a byte that is not ASCII", a.appID)
	}
	return refresh, nil
}

func printable(s string) bool { return endpoint.Printable(s) }

// save stores the refresh token that was returned for another one; if that fails,
// nothing else is done before a retry. It continues after the caller has gone, since
// the platform may not accept the previous one for long.
func (a *authorizer) save(ctx context.Context, r renewal) error {
	ctx, cancel := detached(ctx, storeCall)
	defer cancel()
	var err error
	if a.p.saved == nil {
		err = a.saveInCache(ctx, r)
	} else if r.next != "" && r.next != r.used {
		_, err = guard.Call(ctx, "RefreshTokens.Save", func(ctx context.Context) (struct{}, error) {
			return struct{}{}, a.p.saved.Save(ctx, a.appID, r.next)
		})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.unsaved = nil
		return nil
	}
	if a.unsaved == nil {
		a.saveAt = time.Time{} // retry at the next call
	}
	a.unsaved = &r
	return fmt.Errorf("wxtoken: the refresh token of %s is not saved, so its access token is not handed out: %w", a.appID, hidden(err, r.used, r.next))
}

// saveInCache replaces r.used by r.next. A value that another process has stored
// meanwhile stays: only the platform knows which of the two is newer.
func (a *authorizer) saveInCache(ctx context.Context, r renewal) error {
	now := time.Now()
	next := cmp.Or(r.next, r.used)
	_, err := update(ctx, &a.p.store, a.name(), keptFor, func(v *authorization) bool {
		old := now.Sub(time.Unix(v.SavedAt, 0)).Abs() >= renewAfter // the other clock may be ahead
		switch {
		case r.force:
			v.Ended = false
		case v.Refresh != "" && v.Refresh != r.used || v.Refresh == next && !old:
			return false
		}
		v.Refresh, v.SavedAt = next, now.Unix()
		return true
	})
	return err
}

// saveUnsaved saves what an earlier call could not, unless another process has since
// saved a newer one.
func (a *authorizer) saveUnsaved(ctx context.Context) error {
	a.mu.Lock()
	r := a.unsaved
	a.mu.Unlock()
	if r == nil {
		return nil
	}
	if a.p.saved != nil && !r.force {
		have, err := a.loadSaved(ctx)
		if err == nil && have != "" && have != r.used {
			a.mu.Lock()
			a.unsaved = nil
			a.mu.Unlock()
			return nil
		}
	}
	return a.save(ctx, *r)
}

// authorized stores the refresh token of a new authorization, whatever was stored
// before, and reports whether there was anything. "" means that the platform returned
// none.
func (a *authorizer) authorized(ctx context.Context, refresh, code string) (before bool, err error) {
	ctx, cancel := detached(ctx, storeCall)
	defer cancel()
	now := time.Now()
	_, err = update(ctx, &a.p.store, a.name(), keptFor, func(v *authorization) bool {
		before = v.Refresh != "" || v.SavedAt != 0
		v.Ended, v.SavedAt = false, now.Unix()
		if v.Code == code {
			v.Code = ""
		} else if code != "" {
			v.Early = digest(code)
		}
		if a.p.saved == nil && refresh != "" {
			v.Refresh = refresh
		}
		return true
	})
	if refresh != "" && (err != nil || a.p.saved != nil) {
		err = a.save(ctx, renewal{next: refresh, force: true})
	}
	a.mu.Lock()
	a.barred = nil
	a.mu.Unlock()
	a.gate.opened()
	return before, err
}

// An event is a push about an authorization.
type event struct {
	created int64  // unix seconds, by the platform's clock
	digest  string // of the whole message
	ended   bool   // unauthorized
	code    string // to be exchanged; "": none
}

// note records an event, and reports whether it counts: one older than the last, or a
// replay, does not. One that counts is sure to be the newest if all authorizations were
// pushed, and the cache still knows when: the platform's clock gives a time to nothing
// else.
func (a *authorizer) note(ctx context.Context, e event) (counts, sure bool, err error) {
	_, err = update(ctx, &a.p.store, a.name(), keptFor, func(v *authorization) bool {
		if counts = e.created >= v.EventAt && !slices.Contains(v.Events, e.digest); !counts {
			return false
		}
		if e.code != "" && v.Early == digest(e.code) {
			v.Early = ""
		}
		sure = v.EventAt != 0 && v.Early == ""
		v.EventAt, v.Ended, v.Code = e.created, e.ended, e.code
		v.Events = append(slices.Clone(v.Events[max(0, len(v.Events)+1-manyEvents):]), e.digest)
		return true
	})
	return counts, sure, err
}
