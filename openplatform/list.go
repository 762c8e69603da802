package openplatform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	pageSize  = 200              // authorizers in one answer; the platform allows 500, whose tokens make 100 KB
	listFresh = time.Minute      // how long a list is used for other authorizers
	listAgain = 5 * time.Second  // its age from which it is read again for an authorizer whose token was wrong in it
	listStale = 10 * time.Minute // when reading a half-read list starts over
)

// A lister reads the platform's list of authorizers, one caller at a time. All
// callers use what one of them reads: if the cache loses everything, that takes one
// request for every 200 authorizers, not that many for each authorizer.
type lister struct {
	turn  chan struct{} // holds a value while a caller reads
	found map[string]string
	next  int       // offset of the next page
	begun time.Time // zero: there is no list
	done  time.Time // zero: it has not been read to its end
}

// find returns the refresh token that the platform lists for an authorizer, or "" if
// it lists none or one that is in invalid.
func (l *lister) find(ctx context.Context, p *Platform, appID string, invalid []string) (string, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return "", fmt.Errorf("wxtoken: waiting for the list of authorizers: %w", context.Cause(ctx))
	}
	now := time.Now()
	refresh, listed := l.found[appID]
	wrong := listed && slices.Contains(invalid, refresh) && now.Sub(l.begun) > listAgain
	if !l.done.IsZero() && now.Sub(l.done) > listFresh || now.Sub(l.begun) > listStale || wrong {
		l.found, l.next, l.begun, l.done = map[string]string{}, 0, now, time.Time{}
		listed = false
	}
	for !listed && l.done.IsZero() {
		if err := l.page(ctx, p); err != nil {
			return "", err
		}
		refresh, listed = l.found[appID]
	}
	if slices.Contains(invalid, refresh) {
		return "", nil
	}
	return refresh, nil
}

// page reads the next page.
func (l *lister) page(ctx context.Context, p *Platform) error {
	var list []struct {
		AppID   string          `json:"authorizer_appid"`
		Refresh json.RawMessage `json:"refresh_token"`
	}
	var total int
	_, err := p.sendAsComponent(ctx, request{
		path: listPath, repeatable: true,
		body: map[string]any{"offset": l.next, "count": pageSize},
		read: func(object map[string]json.RawMessage) error {
			if json.Unmarshal(object["list"], &list) != nil || json.Unmarshal(object["total_count"], &total) != nil {
				return errors.New("no list of authorizers with a total_count")
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	for _, a := range list {
		l.found[a.AppID] = stringIn(a.Refresh)
	}
	l.next += len(list)
	if len(list) == 0 || l.next >= total {
		l.done = time.Now()
	}
	return nil
}
