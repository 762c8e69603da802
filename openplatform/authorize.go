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
	codeKept  = 2 * time.Hour          // what came of a code; the platform's codes live for at most one
	codeFree  = time.Minute            // that a failed exchange may be tried again
	claimLife = 15 * time.Second       // after which the cache lets go of a claim: the process that made it must have died
	claimPoll = 100 * time.Millisecond // while another process exchanges a code, at first
	maxCode   = 4 << 10                // bytes
)

// An exchange is what the processes know of one authorization code.
type exchange struct {
	Claim string `json:"claim,omitempty"` // nonce of the process that exchanges it
	AppID string `json:"appid,omitempty"` // of the authorizer, once it is exchanged
	Taken bool   `json:"taken,omitempty"` // Authorize has returned it
}

// Authorize exchanges the authorization code (auth_code) that the owner of an
// account brings back from the authorization page, by api_query_auth, keeps the
// refresh token, and returns the account's appID.
//
// A code is for one use: to Authorize one twice is an error. One that also came
// by a push, and that ServeHTTP has exchanged, is not asked for again, and
// Authorize returns its appID. If the refresh token cannot be saved, that is the
// error, and Authorize with the same code tries to save it again.
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

// redeem exchanges a code, once for all processes, or returns what came of that;
// with take, for Authorize. before says that the authorizer was authorized before.
// What is under way when ctx ends goes on, since a code cannot be used again.
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
				return "", false, fmt.Errorf("wxtoken: another process exchanges the authorization code and has not finished: %w", ctx.Err())
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

// exchanged returns what came of a code that was exchanged already.
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
		return "", false, fmt.Errorf("wxtoken: the authorization code was used already, for %s; each is for one use: take a new one from the authorization page", a.appID)
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

// codeError says what the platform's errors about a code mean.
func codeError(err error) error {
	switch codeOf(err) {
	case 61009:
		return fmt.Errorf("wxtoken: the authorization code is invalid, or was used already: each is for one use: %w", err)
	case 61010:
		return fmt.Errorf("wxtoken: the authorization code has expired: take a new one from the authorization page: %w", err)
	}
	return err
}

// redeemPushed exchanges a code that came by a push. If it cannot be exchanged any
// more, the authorization stands all the same, and the platform lists its refresh
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

// supersede has the token that was in use before a new authorization replaced:
// the platform ends it. Where that fails, an API's rejection does it.
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
