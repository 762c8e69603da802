// Package platform provides the platform that the examples use: WeChat, or a fake.
package platform

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A Platform is where an example gets its tokens.
type Platform struct {
	Name      string // for people
	AppID     string
	Fetcher   *Fetcher
	Transport http.RoundTripper // carries requests for the API's hosts to the platform
	Fake      *wxtest.Platform  // nil: WeChat itself
}

// FromEnv reads WECHAT_APPID and WECHAT_SECRET with getenv. Without them it starts
// wxtest's fake, in this process and with an app of its own.
//
// With them it uses stable_token, whose tokens are independent of those that the
// app's other systems got from cgi-bin/token, so trying an example does not affect them. An
// application that shares its token through wxtoken may use either.
func FromEnv(getenv func(string) string) (*Platform, error) {
	appID, secret := getenv("WECHAT_APPID"), getenv("WECHAT_SECRET")
	if (appID == "") != (secret == "") {
		return nil, errors.New("wxtoken example: set both WECHAT_APPID and WECHAT_SECRET, or neither to use the fake platform")
	}
	if appID != "" {
		return &Platform{
			Name:      "WeChat, app " + appID,
			AppID:     appID,
			Fetcher:   &Fetcher{HTTPFetcher: wxtoken.NewStableFetcher(appID, secret)},
			Transport: http.DefaultTransport,
		}, nil
	}
	// A new appID each time: an earlier run may have left a record with a token that
	// this fake does not know.
	appID, secret = "wxfake"+strings.ToLower(rand.Text()[:10]), rand.Text()
	fake := wxtest.NewPlatform(wxtest.WithApp(appID, secret))
	return &Platform{
		Name:      "wxtest's fake, app " + appID + " (set WECHAT_APPID and WECHAT_SECRET for WeChat itself)",
		AppID:     appID,
		Fetcher:   &Fetcher{HTTPFetcher: wxtoken.NewFetcher(appID, secret, wxtoken.WithHTTPClient(fake.Client()))},
		Transport: fake.Transport(),
		Fake:      fake,
	}, nil
}

// A Fetcher counts the fetches of an HTTPFetcher.
type Fetcher struct {
	*wxtoken.HTTPFetcher
	fetches atomic.Int64
}

// Fetch implements wxtoken.Fetcher.
func (f *Fetcher) Fetch(ctx context.Context) (wxtoken.Token, error) {
	f.fetches.Add(1)
	return f.HTTPFetcher.Fetch(ctx)
}

// Fetches returns how often a token was fetched.
func (f *Fetcher) Fetches() int64 { return f.fetches.Load() }
