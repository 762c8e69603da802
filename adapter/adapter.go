// Package adapter gives other WeChat SDKs their access_token from a
// wxtoken.TokenSource, so that they share one token with each other, with other
// processes, and with code that uses wxtoken directly. It imports none of them:
// what it returns fits their interfaces and function types as it is.
//
// From then on nothing else may fetch a token for the app: an SDK that still does
// so for one of its parts supersedes the shared token.
//
// The SDKs differ in what they do when an API rejects a token. Where one lets its
// HTTP client be replaced by one with a wxtoken.Transport, that deals with
// rejections before the SDK sees them, and reports the Source's errors:
//
//	                 rejected token                     error of the Source
//	Silenceper       only through Transport             returned to the caller
//	Chanxuehong      replaced; not on 40014             returned to the caller
//	PowerWeChat      replaced; not for a POST           an empty token, so errcode 41001
//	Weapp            only through Transport             an empty token, so errcode 41001
//	Fastwego         replaced; not on 40014 or a POST   returned to the caller
//	Workwx           only through Transport             returned to the caller
//
// An SDK that has one HTTP client for the whole process, as silenceper and
// fastwego have, can serve several apps: give the Transport the Source of one of
// them, and those of the others in Others. Each request then bears the token that
// the SDK put there, and one that is rejected is replaced by a token of the same
// app.
//
// A token is replaced only if the TokenSource has a method Invalidate like that
// of wxtoken.Source. SDKs that hand over no context wait as long as the
// TokenSource does. Every function here panics if given a nil TokenSource.
package adapter

import (
	"context"

	"github.com/wxtoken/wxtoken"
)

// A SilenceperHandle is an AccessTokenHandle and an AccessTokenContextHandle of
// github.com/silenceper/wechat/v2.
type SilenceperHandle struct{ src wxtoken.TokenSource }

// Silenceper adapts src to github.com/silenceper/wechat/v2:
//
//	account.SetAccessTokenHandle(adapter.Silenceper(src))        // official account
//	program.SetAccessTokenContextHandle(adapter.Silenceper(src)) // mini program
//
// This SDK reports no rejected token, but lets its HTTP client be replaced, which
// is one for the whole process and all of its apps:
//
//	wc.SetHTTPClient(&http.Client{Transport: &wxtoken.Transport{
//		Source: official,
//		Others: []wxtoken.TokenSource{mini}, // if there are more apps than one
//	}})
func Silenceper(src wxtoken.TokenSource) *SilenceperHandle {
	return &SilenceperHandle{must(src)}
}

// GetAccessToken returns the Source's token, or its error.
func (h *SilenceperHandle) GetAccessToken() (accessToken string, err error) {
	return h.GetAccessTokenContext(context.Background())
}

// GetAccessTokenContext is GetAccessToken for the parts of the SDK that have a
// context.
func (h *SilenceperHandle) GetAccessTokenContext(ctx context.Context) (accessToken string, err error) {
	token, err := h.src.Token(ctx)
	return token.Value, err
}

// A ChanxuehongServer is a core.AccessTokenServer of
// github.com/chanxuehong/wechat.
type ChanxuehongServer struct{ src wxtoken.TokenSource }

// Chanxuehong adapts src to package mp/core of github.com/chanxuehong/wechat:
//
//	client := core.NewClient(adapter.Chanxuehong(src), nil)
//
// The SDK replaces a token on errcode 40001 and 42001. For 40014 as well, give
// its client an http.Client with a wxtoken.Transport.
func Chanxuehong(src wxtoken.TokenSource) *ChanxuehongServer {
	return &ChanxuehongServer{must(src)}
}

// Token returns the Source's token, or its error.
func (s *ChanxuehongServer) Token() (token string, err error) {
	t, err := s.src.Token(context.Background())
	return t.Value, err
}

// RefreshToken invalidates currentToken, which an API has rejected, and returns
// the token to use in its place. Any number of callers may report the same one:
// it has no effect on a newer token. An empty currentToken means none.
func (s *ChanxuehongServer) RefreshToken(currentToken string) (token string, err error) {
	if currentToken != "" {
		reject(s.src, currentToken)
	}
	return s.Token()
}

// IID01332E16DF5011E5A9D5A4DB30FED8E1 marks an AccessTokenServer.
func (s *ChanxuehongServer) IID01332E16DF5011E5A9D5A4DB30FED8E1() {}

// Weapp adapts src to github.com/medivhzhan/weapp/v3:
//
//	weapp.NewClient(appID, "",
//		weapp.WithAccessTokenSetter(adapter.Weapp(src)),
//		weapp.WithHttpClient(&http.Client{Transport: &wxtoken.Transport{Source: src}}))
//
// The SDK keeps the token in a cache of its own for expireIn, which is therefore
// always 1 second: a longer time would keep a superseded token in use, and 0 makes
// some caches keep it without limit. It has no use for an error or a rejected
// token; with the Transport, the caller gets the one and is spared the other. The
// appid and secret that it hands over are not looked at: the token is that of
// src's app.
//
// Its GetTempMedia goes through http.DefaultClient all the same, and by default
// it logs URLs with their tokens: client.SetLogLevel(logger.Silent).
func Weapp(src wxtoken.TokenSource) func(appid, secret string) (token string, expireIn uint) {
	must(src)
	return func(string, string) (string, uint) {
		t, _ := src.Token(context.Background())
		return t.Value, 1
	}
}

// A WorkwxProvider is an ITokenProvider of github.com/xen0n/go-workwx.
type WorkwxProvider struct{ src wxtoken.TokenSource }

// Workwx adapts src to github.com/xen0n/go-workwx, the SDK for WeCom:
//
//	src := wxtoken.New(wxtoken.NewWeComFetcher(corpID, secret), cache)
//	app := workwx.New(corpID,
//		workwx.WithAccessTokenProvider(adapter.Workwx(src)),
//		workwx.WithHTTPClient(&http.Client{Transport: &wxtoken.Transport{Source: src}}),
//	).WithApp("", agentID)
//
// Each app of a corporation has a token of its own, but a provider is one for all
// apps of a Workwx: make a Workwx for each. The SDK reports no rejected token;
// that is what the Transport is for. A Source of tickets fits
// WithJSAPITicketProvider and WithJSAPITicketAgentConfigProvider.
func Workwx(src wxtoken.TokenSource) *WorkwxProvider { return &WorkwxProvider{must(src)} }

// GetToken returns the Source's token, or its error.
func (p *WorkwxProvider) GetToken(ctx context.Context) (string, error) {
	t, err := p.src.Token(ctx)
	return t.Value, err
}

func must(src wxtoken.TokenSource) wxtoken.TokenSource {
	if src == nil {
		panic("adapter: TokenSource is nil; give the result of wxtoken.New")
	}
	return src
}

// reject reports a rejected token to src, if that takes reports. An error changes
// nothing for the SDK, which asks for a token next: the platform is known to
// reject a good one now and then, so even the same one is worth trying.
func reject(src wxtoken.TokenSource, token string) {
	if s, ok := src.(interface {
		Invalidate(ctx context.Context, rejected string) error
	}); ok {
		_ = s.Invalidate(context.Background(), token)
	}
}
