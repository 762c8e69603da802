// Package adapter connects other WeChat SDKs to a [wxtoken.TokenSource], so that they
// share one access_token with each other, with other processes, and with code that
// uses wxtoken directly. It imports none of them: what it returns fits their
// interfaces and function types as it is.
//
// Once an SDK is connected, nothing else may fetch a token for the app: an SDK that
// still fetches for one of its parts supersedes the shared token.
//
// The SDKs differ in how they handle a rejected token. If an SDK lets you replace its
// HTTP client, use one with a [wxtoken.Transport], which handles rejections before the
// SDK sees them and reports the Source's errors:
//
//	                 rejected token                     error of the Source
//	Silenceper       only through Transport             returned to the caller
//	Chanxuehong      replaced; not on 40014             returned to the caller
//	PowerWeChat      replaced; not for a POST           an empty token, so errcode 41001
//	Weapp            only through Transport             an empty token, so errcode 41001
//	Fastwego         replaced; not on 40014 or a POST   returned to the caller
//	Workwx           only through Transport             returned to the caller
//
// An SDK with one HTTP client for the whole process, such as silenceper and fastwego,
// can serve several apps: set the Transport's Source to that of one app, and Others
// to those of the rest. Each request then carries the token that the SDK put there,
// and a rejected token is replaced by one of the same app.
//
// A token is replaced only if the TokenSource has a method Invalidate like that of
// [wxtoken.Source]. SDKs that pass no context wait as long as the TokenSource does.
// Every function here panics if its TokenSource is nil.
package adapter

import (
	"context"

	"github.com/wxtoken/wxtoken"
)

// A SilenceperHandle implements AccessTokenHandle and AccessTokenContextHandle of
// github.com/silenceper/wechat/v2.
type SilenceperHandle struct{ src wxtoken.TokenSource }

// Silenceper adapts src to github.com/silenceper/wechat/v2:
//
//	account.SetAccessTokenHandle(adapter.Silenceper(src))        // official account
//	program.SetAccessTokenContextHandle(adapter.Silenceper(src)) // mini program
//
// This SDK does not report rejected tokens, but its HTTP client can be replaced.
// There is one for the whole process and all of its apps:
//
//	wc.SetHTTPClient(&http.Client{Transport: &wxtoken.Transport{
//		Source: official,
//		Others: []wxtoken.TokenSource{mini}, // if there is more than one app
//	}})
func Silenceper(src wxtoken.TokenSource) *SilenceperHandle {
	return &SilenceperHandle{must(src)}
}

// GetAccessToken returns the Source's token, or its error.
func (h *SilenceperHandle) GetAccessToken() (accessToken string, err error) {
	return h.GetAccessTokenContext(context.Background())
}

// GetAccessTokenContext is GetAccessToken for the parts of the SDK that pass a
// context.
func (h *SilenceperHandle) GetAccessTokenContext(ctx context.Context) (accessToken string, err error) {
	token, err := h.src.Token(ctx)
	return token.Value, err
}

// A ChanxuehongServer implements core.AccessTokenServer of
// github.com/chanxuehong/wechat.
type ChanxuehongServer struct{ src wxtoken.TokenSource }

// Chanxuehong adapts src to package mp/core of github.com/chanxuehong/wechat:
//
//	client := core.NewClient(adapter.Chanxuehong(src), nil)
//
// The SDK replaces a token on errcode 40001 and 42001. To cover 40014 as well, give
// its client an http.Client with a [wxtoken.Transport].
func Chanxuehong(src wxtoken.TokenSource) *ChanxuehongServer {
	return &ChanxuehongServer{must(src)}
}

// Token returns the Source's token, or its error.
func (s *ChanxuehongServer) Token() (token string, err error) {
	t, err := s.src.Token(context.Background())
	return t.Value, err
}

// RefreshToken invalidates currentToken, which an API has rejected, and returns the
// token to use instead. Any number of callers may report the same token: a newer one
// is not affected. An empty currentToken invalidates nothing.
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
// The SDK caches the token itself for expireIn, which is therefore always 1 second: a
// longer time would keep a superseded token in use, and 0 makes some caches keep it
// without limit. It cannot pass on errors and does not handle rejected tokens; with
// the Transport, callers get the errors and rejected tokens are replaced. The appid
// and secret arguments are ignored: the token is that of src's app.
//
// Its GetTempMedia always uses http.DefaultClient, and by default it logs URLs with
// their tokens: call client.SetLogLevel(logger.Silent).
func Weapp(src wxtoken.TokenSource) func(appid, secret string) (token string, expireIn uint) {
	must(src)
	return func(string, string) (string, uint) {
		t, _ := src.Token(context.Background())
		return t.Value, 1
	}
}

// A WorkwxProvider implements ITokenProvider of github.com/xen0n/go-workwx.
type WorkwxProvider struct{ src wxtoken.TokenSource }

// Workwx adapts src to github.com/xen0n/go-workwx, the SDK for WeCom:
//
//	src := wxtoken.New(wxtoken.NewWeComFetcher(corpID, secret), cache)
//	app := workwx.New(corpID,
//		workwx.WithAccessTokenProvider(adapter.Workwx(src)),
//		workwx.WithHTTPClient(&http.Client{Transport: &wxtoken.Transport{Source: src}}),
//	).WithApp("", agentID)
//
// Each app of a corporation has a token of its own, but a Workwx has one provider for
// all of its apps: make a Workwx for each app. The SDK does not report rejected
// tokens, so it needs the Transport. A Source of tickets fits WithJSAPITicketProvider
// and WithJSAPITicketAgentConfigProvider.
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

// reject reports a rejected token to src, if src accepts reports. An error makes no
// difference to the SDK, which asks for a token next: the platform is known to reject
// good tokens now and then, so even the same one is worth trying.
func reject(src wxtoken.TokenSource, token string) {
	if s, ok := src.(interface {
		Invalidate(ctx context.Context, rejected string) error
	}); ok {
		_ = s.Invalidate(context.Background(), token)
	}
}
