package adapter

import (
	"context"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
)

// PowerWeChat adapts src to github.com/ArtisanCloud/PowerWeChat/v3, whose
// object.HashMap is the type M:
//
//	app.AccessToken.GetCustomToken = adapter.PowerWeChat[object.HashMap](src)
//
// The map always has a string access_token and a float64 expires_in, the seconds
// left: the SDK panics without them. If the Source returns an error, they are empty
// and 0, the platform answers errcode 41001 (access_token missing), and the reason is
// in the Source's log or observer.
//
// refresh means that an API rejected a token, but not which one: it is assumed to be
// the last one returned, unless that is so new that it was probably the one before.
//
// The SDK resends a rejected call, but without the body of a POST. A
// [wxtoken.Transport] in UserConfig.Http.Transport fixes that, and reports the Source's
// errors.
func PowerWeChat[M ~map[string]any](src wxtoken.TokenSource) func(key string, refresh bool) M {
	g := &given{src: must(src)}
	return func(_ string, refresh bool) M {
		if refresh {
			g.rejected()
		}
		t, err := g.token()
		if err != nil {
			return M{"access_token": "", "expires_in": 0.0}
		}
		return M{"access_token": t.Value, "expires_in": max(1, time.Until(t.ExpiresAt).Truncate(time.Second).Seconds())}
	}
}

// Fastwego adapts src to the fastwego SDKs, such as
// github.com/fastwego/offiaccount, where T is OffiAccount:
//
//	app.AccessToken.GetAccessTokenHandler, app.AccessToken.NoticeAccessTokenExpireHandler =
//		adapter.Fastwego[offiaccount.OffiAccount](src)
//
// notice means that an API rejected a token, but not which one: it is assumed to be
// the last one returned, unless that is so new that it was probably the one before.
// It never returns an error.
//
// The SDK resends a rejected call, but without the body of a POST. A
// [wxtoken.Transport] in http.DefaultClient, which the SDK uses for all of its apps,
// fixes that:
//
//	http.DefaultClient.Transport = &wxtoken.Transport{
//		Source: first,
//		Others: []wxtoken.TokenSource{second}, // if there is more than one app
//	}
//
// By default it logs URLs with their tokens: set app.Logger = nil.
func Fastwego[T any](src wxtoken.TokenSource) (get func(*T) (accessToken string, err error), notice func(*T) error) {
	g := &given{src: must(src)}
	get = func(*T) (string, error) {
		t, err := g.token()
		return t.Value, err
	}
	notice = func(*T) error {
		g.rejected()
		return nil
	}
	return get, notice
}

// settle is how long after a new token appeared a rejection is assumed to be about
// the one before: of many callers whose calls were rejected with the old token, the
// last may report it late, and must not invalidate the new one.
const settle = 10 * time.Second

// given remembers the token that an SDK got last, for SDKs that do not say which
// token was rejected.
type given struct {
	src wxtoken.TokenSource

	mu    sync.Mutex
	value string
	since time.Time // when value replaced another one; zero for the first
}

func (g *given) token() (wxtoken.Token, error) {
	t, err := g.src.Token(context.Background())
	if err != nil {
		return wxtoken.Token{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.value != "" && g.value != t.Value {
		g.since = time.Now()
	}
	g.value = t.Value
	return t, nil
}

func (g *given) rejected() {
	g.mu.Lock()
	value, settled := g.value, time.Since(g.since) >= settle
	g.mu.Unlock()
	if value != "" && settled {
		reject(g.src, value)
	}
}
