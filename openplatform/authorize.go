package openplatform

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/internal/guard"
)

const (
	codeKept  = 2 * time.Hour          // the outcome of a code; the platform's codes live for at most an hour
	codeFree  = time.Minute            // after a failed exchange, until the code can be tried again
	claimLife = 15 * time.Second       // after which the cache drops a claim: the process that made it must have died
	claimPoll = 100 * time.Millisecond // the first wait while another process exchanges a code
	maxCode   = 4 << 10                // bytes
)

// An exchange is what the processes know about one authorization code.
type exchange struct {
	Claim string `json:"claim,omitempty"` // nonce of the process that exchanges it
	AppID string `json:"appid,omitempty"` // of the authorizer, once it is exchanged
	Taken bool   `json:"taken,omitempty"` // Authorize has returned it
}

// Authorize exchanges the authorization code (auth_code) that the owner of an account
// brings back from the authorization page, by api_query_auth, stores the refresh
// token, and returns the account's appID.
//
// A code can be used once: a second Authorize with it returns an error. If the code
// was also pushed, and ServeHTTP has exchanged it, Authorize returns the appID
// without asking again. If the refresh token cannot be saved, Authorize returns that
// error, and calling it again with the same code retries the save.
func (p *Platform) Authorize(ctx context.Context, code string) (authorizerAppID string, err error) {
	switch {
	case p.fault != nil:
		return "", p.fault
	case code == "":
		return "", errors.New("wxtoken: the authorization code is empty; nothing was sent")
	case len(code) > maxCode || !printable(code):
		return "", errors.New("wxtoken: the authorization code is too long, or holds a space, a control byte or a byte that is not ASCII; nothing was sent")
	}
	appID, before, err := p.redeem(ctx, code, true)
	if err == nil && before {
		p.authorizer(appID).supersede(ctx)
	}
	return appID, err
}

// redeem exchanges a code, once for all processes, or returns the outcome of an
// earlier exchange; take is set for Authorize. before reports whether the authorizer
// was authorized before. An exchange continues after ctx ends, since a code cannot be
// used again.
func (p *Platform) redeem(ctx context.Context, code string, take bool) (appID string, before bool, err error) {
	type result struct {
		appID  string
		before bool
	}
	res, err := guard.Call(ctx, "exchanging an authorization code", func(ctx context.Context) (result, error) {
		ctx, cancel := detached(ctx, fetchTimeout)
		defer cancel()
		appID, before, err := p.redeemOnce(ctx, code, take)
		return result{appID, before}, err
	})
	return res.appID, res.before, err
}

func (p *Platform) redeemOnce(ctx context.Context, code string, take bool) (appID string, before bool, err error) {
	name, nonce := p.name("code")+":"+digest(code), rand.Text()
	for poll := claimPoll; ; poll = min(poll*3/2, time.Second) {
		v, err := get[exchange](ctx, &p.store, name)
		if err != nil {
			return "", false, err
		}
		if v.value.AppID != "" {
			return p.exchanged(ctx, name, code, v, take)
		}
		if v.value.Claim != "" {
			select {
			case <-time.After(poll):
				continue
			case <-ctx.Done():
				return "", false, fmt.Errorf("wxtoken: another process is still exchanging the authorization code: %w", ctx.Err())
			}
		}
		mine := exchange{Claim: nonce}
		done, err := put(ctx, &p.store, name, v, mine, claimLife)
		if err != nil {
			return "", false, err
		}
		if done {
			return p.queryAuth(ctx, name, code, mine, take)
		}
	}
}

// exchanged returns the outcome of a code that was exchanged earlier.
func (p *Platform) exchanged(ctx context.Context, name, code string, v stored[exchange], take bool) (string, bool, error) {
	a := p.authorizer(v.value.AppID)
	if !take {
		_, err := update(ctx, &p.store, a.name(), keptFor, func(r *authorization) bool {
			pushed := r.Code == code
			if pushed {
				r.Code = ""
			}
			return pushed
		})
		return a.appID, false, err
	}
	if v.value.Taken {
		return "", false, fmt.Errorf("wxtoken: the authorization code was used already, for %s; a code can be used once: get a new one from the authorization page", a.appID)
	}
	if err := a.saveUnsaved(ctx); err != nil {
		return "", false, err
	}
	next := v.value
	next.Taken = true
	done, err := put(ctx, &p.store, name, v, next, codeKept)
	if err == nil && !done { // another Authorize was faster
		err = errors.New("wxtoken: the authorization code is being used twice at the same time")
	}
	if err != nil {
		return "", false, err
	}
	return a.appID, false, nil
}

// queryAuth exchanges a code that this process has claimed.
func (p *Platform) queryAuth(ctx context.Context, name, code string, mine exchange, take bool) (string, bool, error) {
	var info struct {
		AppID   string          `json:"authorizer_appid"`
		Refresh json.RawMessage `json:"authorizer_refresh_token"`
	}
	_, err := p.sendAsComponent(ctx, request{
		path: queryAuthPath, secrets: []string{code},
		body: map[string]any{"authorization_code": code},
		read: func(object map[string]json.RawMessage) error {
			if json.Unmarshal(object["authorization_info"], &info) != nil || checkAppID("authorizer_appid", info.AppID) != nil {
				return errors.New("no authorization_info with an authorizer_appid")
			}
			return nil
		},
	})
	settle := func(next exchange, ttl time.Duration) {
		ctx, cancel := detached(ctx, storeCall)
		defer cancel()
		_, _ = update(ctx, &p.store, name, ttl, func(v *exchange) bool {
			owner := v.Claim == mine.Claim
			if owner {
				*v = next
			}
			return owner
		})
	}
	if err != nil {
		settle(exchange{}, codeFree)
		return "", false, codeError(err)
	}
	a := p.authorizer(info.AppID)
	before, err := a.authorized(ctx, stringIn(info.Refresh), code)
	settle(exchange{AppID: info.AppID, Taken: take && err == nil}, codeKept)
	if err != nil {
		return "", before, err
	}
	return info.AppID, before, nil
}

// codeError explains the platform's errors about a code.
func codeError(err error) error {
	switch codeOf(err) {
	case 61009:
		return fmt.Errorf("wxtoken: the authorization code is invalid, or was used already; a code can be used once: %w", err)
	case 61010:
		return fmt.Errorf("wxtoken: the authorization code has expired: get a new one from the authorization page: %w", err)
	}
	return err
}

// redeemPushed exchanges a code that was pushed. If the code can no longer be
// exchanged, the authorization is still valid, and the platform lists its refresh
// token if an earlier attempt got that far.
func (a *authorizer) redeemPushed(ctx context.Context, code string) error {
	_, _, err := a.p.redeem(ctx, code, false)
	if c := codeOf(err); c != 61009 && c != 61010 {
		return err
	}
	refresh, err := a.p.list.find(ctx, a.p, a.appID, nil)
	if err != nil {
		return err
	}
	_, err = a.authorized(ctx, refresh, code)
	return err
}

// supersede replaces the token that was in use before a new authorization, since the
// platform revokes it. If that fails, an API's rejection causes the replacement.
func (a *authorizer) supersede(ctx context.Context) {
	fetches := a.fetched()
	tok, err := a.src.Token(ctx)
	if err == nil && a.fetched() == fetches {
		_ = a.src.Invalidate(ctx, tok.Value)
	}
}

func (a *authorizer) fetched() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fetches
}
