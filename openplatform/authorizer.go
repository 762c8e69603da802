package openplatform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/bridge"
	"github.com/wxtoken/wxtoken/internal/errcode"
)

// ErrNotAuthorized is wrapped by the errors of Authorizer(…).Token when there is no
// authorization: it was never given, the owner has ended it, or its refresh token is
// invalid and the platform lists no other. The owner has to authorize again.
var ErrNotAuthorized = errors.New("wxtoken: not authorized; have the account's owner authorize the platform again")

const (
	deniedFor  = time.Hour        // how long a process does not ask again after a denial (61003)
	invalidFor = 10 * time.Minute // the same without a valid refresh token
	pushedFor  = 2 * time.Hour    // the same after an unauthorized push: as long as a token lasts that was issued before it
	endedFor   = 24 * time.Hour   // the same after both
	mostTries  = 3                // refresh tokens that one fetch tries
)

// An authorizer is the Fetcher of one authorizer_access_token.
type authorizer struct {
	p     *Platform
	appID string
	src   *wxtoken.Source
	gate  gate

	mu       sync.Mutex
	unsaved  *renewal  // returned by the platform and not saved yet
	saveAt   time.Time // when to retry saving it
	barred   error     // why the platform is not asked
	until    time.Time // when barred ends
	barredBy string    // digest of what was known then: any change ends barred too
	fetches  int
}

// A renewal is a refresh token that was returned for another one.
type renewal struct {
	used, next string
	force      bool // of a new authorization: it replaces whatever is kept
}

// Key names the credential in the cache.
func (a *authorizer) Key() string { return "authorizer:" + a.p.appID + ":" + a.appID }

// Platform returns the platform whose error codes and API hosts apply.
func (a *authorizer) Platform() errcode.Platform { return errcode.ThirdParty }

// Gate changes when the owner has ended or renewed the authorization, when a ticket
// has arrived, or when a refresh token is to be saved.
func (a *authorizer) Gate() (bridge.Revision, error) {
	a.mu.Lock()
	if now := time.Now(); a.unsaved != nil && !now.Before(a.saveAt) {
		a.saveAt = now.Add(time.Second)
		a.gate.changed()
	}
	a.mu.Unlock()
	mine, closed := a.gate.state(a.look)
	component, _ := a.p.component.Gate()
	return mine + component, closed
}

// look reports whether another process has received an authorization.
func (a *authorizer) look(ctx context.Context) bool {
	v, err := get[authorization](ctx, &a.p.store, a.name())
	a.mu.Lock()
	defer a.mu.Unlock()
	return err == nil && v.raw != nil && !v.value.Ended && digest(string(v.raw)) != a.barredBy
}

// Fetch asks for an authorizer_access_token.
func (a *authorizer) Fetch(ctx context.Context) (wxtoken.Token, error) {
	a.mu.Lock()
	a.fetches++
	a.mu.Unlock()
	if err := errors.Join(a.p.fault, checkAppID("authorizer appID", a.appID)); err != nil {
		return wxtoken.Token{}, unsent(err)
	}
	early, cancel := beforehand(ctx)
	defer cancel()
	if err := a.saveUnsaved(early); err != nil {
		return wxtoken.Token{}, unsent(err)
	}
	v, err := a.load(early)
	var pending error // why a code that was pushed is not exchanged
	if err == nil && v.value.Code != "" {
		if pending = a.redeemPushed(early, v.value.Code); pending == nil {
			v, err = a.load(early)
		}
	}
	if err != nil {
		return wxtoken.Token{}, unsent(err)
	}
	if err := a.isBarred(v); err != nil {
		return wxtoken.Token{}, unsent(err)
	}
	return a.fetch(ctx, v, pending)
}

// fetch tries the stored refresh token, then what may have replaced it, then what the
// platform lists. A pending code means that the authorization may still be valid.
func (a *authorizer) fetch(ctx context.Context, v stored[authorization], pending error) (wxtoken.Token, error) {
	var invalid []string
	denial := errors.New("no refresh token is kept and the platform lists none")
	for {
		refresh, err := a.refreshToken(ctx, v, invalid)
		switch {
		case err != nil:
			return wxtoken.Token{}, unsent(err)
		case refresh == "" && pending != nil:
			return wxtoken.Token{}, unsent(pending)
		case refresh == "":
			return wxtoken.Token{}, a.bar(v, denial, invalidFor)
		}
		tok, next, err := a.renew(ctx, refresh)
		switch code := codeOf(err); {
		case err == nil:
			if err := a.finish(ctx, v, renewal{used: refresh, next: next}); err != nil {
				return wxtoken.Token{}, err
			}
			return tok, nil
		case code == 61023 && len(invalid) < mostTries:
			invalid, denial = append(invalid, refresh), err
			if v, err = a.load(ctx); err != nil {
				return wxtoken.Token{}, unsent(err)
			}
		case (code == 61003 || code == 61007 || code == 61023) && pending != nil:
			return wxtoken.Token{}, unsent(errors.Join(pending, err))
		case code == 61003 && v.value.Ended:
			return wxtoken.Token{}, a.bar(v, err, endedFor)
		case code == 61003 || code == 61007:
			return wxtoken.Token{}, a.bar(v, err, deniedFor)
		case code == 61023:
			return wxtoken.Token{}, a.bar(v, err, invalidFor)
		default:
			return wxtoken.Token{}, err
		}
	}
}

// finish saves the returned refresh token. The access token must not be handed out
// before that.
func (a *authorizer) finish(ctx context.Context, v stored[authorization], r renewal) error {
	if err := a.save(ctx, r); err != nil {
		return unsent(err)
	}
	if v.value.Ended { // authorized again, without a push
		_, _ = a.authorized(ctx, "", "")
	}
	a.gate.has()
	return nil
}

// refreshToken returns the stored refresh token unless it is in invalid, otherwise
// the one that the platform lists, which it saves; "" if there is none.
func (a *authorizer) refreshToken(ctx context.Context, v stored[authorization], invalid []string) (string, error) {
	if r := v.value.Refresh; r != "" && !slices.Contains(invalid, r) {
		return r, nil
	}
	r, err := a.p.list.find(ctx, a.p, a.appID, invalid)
	if r == "" || err != nil {
		return "", err
	}
	return r, a.save(ctx, renewal{used: v.value.Refresh, next: r})
}

// renew requests a token with a refresh token, and also returns the new refresh
// token, or "".
func (a *authorizer) renew(ctx context.Context, refresh string) (tok wxtoken.Token, next string, err error) {
	tok, err = a.p.sendAsComponent(ctx, request{
		path: refreshPath, field: "authorizer_access_token", secrets: []string{refresh},
		body: map[string]any{"authorizer_appid": a.appID, "authorizer_refresh_token": refresh},
		read: func(object map[string]json.RawMessage) error {
			next = stringIn(object["authorizer_refresh_token"])
			return nil
		},
	})
	return tok, next, err
}

// bar records that there is no authorization, and returns the error that says so.
func (a *authorizer) bar(v stored[authorization], cause error, d time.Duration) error {
	err := fmt.Errorf("%w (authorizer %s): %w", ErrNotAuthorized, a.appID, cause)
	until := time.Now().Add(d)
	a.mu.Lock()
	a.barred, a.until, a.barredBy = err, until, digest(string(v.raw))
	a.mu.Unlock()
	if v.value.Ended {
		a.gate.close(err, until)
	} else {
		a.gate.lacks()
	}
	return unsent(err)
}

// end stops handing out the token, since a push says that the owner has ended the
// authorization, and no later one is known. After pushedFor the platform is asked: the
// cache may have lost a later one.
func (a *authorizer) end() {
	err := fmt.Errorf("%w (authorizer %s): the owner has ended the authorization", ErrNotAuthorized, a.appID)
	a.gate.close(err, time.Now().Add(pushedFor))
}

// isBarred returns why the platform must not be asked, if so.
func (a *authorizer) isBarred(v stored[authorization]) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if digest(string(v.raw)) != a.barredBy || !time.Now().Before(a.until) {
		return nil
	}
	return a.barred
}

// stringIn returns a JSON string that can be a refresh token, or "".
func stringIn(raw json.RawMessage) (s string) {
	if json.Unmarshal(raw, &s) != nil || len(s) > maxTicket || !printable(s) {
		return ""
	}
	return s
}
