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
// left: the SDK panics without them. After an error of the Source they are empty
// and 0, the platform answers errcode 41001 (access_token missing), and the
// Source's own log or observer has the reason.
//
// refresh says that the platform refused a token, but not which: it is taken to
// be the last one given, unless that is so new that it is likely the one before.
func PowerWeChat[M ~map[string]any](src wxtoken.TokenSource) func(key string, refresh bool) M {
	g := &given{src: must(src)}
	return func(_ string, refresh bool) M {
		if refresh {
			g.refused()
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
// notice says that the platform refused a token, but not which: it is taken to
// be the last one given, unless that is so new that it is likely the one before.
// It never fails.
//
// The SDK sends a refused call again, but not a POST's body. If the process uses
// it for one app alone, a wxtoken.Transport in http.DefaultClient, which the SDK
// uses, makes up for that. By default it logs URLs with their tokens:
// app.Logger = nil.
func Fastwego[T any](src wxtoken.TokenSource) (get func(*T) (accessToken string, err error), notice func(*T) error) {
	g := &given{src: must(src)}
	get = func(*T) (string, error) {
		t, err := g.token()
		return t.Value, err
	}
	notice = func(*T) error {
		g.refused()
		return nil
	}
	return get, notice
}

// settle is how long after a new token turned up a refusal is taken to be about
// the one before: of a crowd whose calls were refused with the old token, the
// last may report it only then, and must not cost the new one its life.
const settle = 10 * time.Second

// given knows the token that an SDK last got, for SDKs that do not say which
// token was refused.
type given struct {
	src wxtoken.TokenSource

	mu    sync.Mutex
	value string
	since time.Time // when value took another's place; zero for the first
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

func (g *given) refused() {
	g.mu.Lock()
	value, settled := g.value, time.Since(g.since) >= settle
	g.mu.Unlock()
	if value != "" && settled {
		reject(g.src, value)
	}
}
