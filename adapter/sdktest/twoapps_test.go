package sdktest

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fastwego/offiaccount"
	"github.com/fastwego/offiaccount/apis/customservice"
	"github.com/fastwego/offiaccount/apis/util"
	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/miniprogram"
	miniconfig "github.com/silenceper/wechat/v2/miniprogram/config"
	minimessage "github.com/silenceper/wechat/v2/miniprogram/message"
	"github.com/silenceper/wechat/v2/officialaccount"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/adapter"
	"github.com/wxtoken/wxtoken/wxtest"
)

const miniID = "wxfedcba9876543210"

// A pair is a world with a second app, and one HTTP client for both.
type pair struct {
	world
	mini   *wxtoken.Source
	client *http.Client
}

func inPair(t *testing.T, test func(t *testing.T, p pair)) {
	t.Helper()
	inWorld(t, func(t *testing.T, w world) {
		w.AddApp(miniID, secret)
		below := http.DefaultClient.Transport
		mini := wxtoken.New(wxtoken.NewFetcher(miniID, secret, wxtoken.WithHTTPClient(&http.Client{Transport: below})), nil)
		test(t, pair{w, mini, &http.Client{
			Transport: &wxtoken.Transport{Source: w.src, Others: []wxtoken.TokenSource{mini}, Base: below},
			Timeout:   30 * time.Second,
		}})
	})
}

// rejected revokes the tokens of both apps 5 times, each time during 20 calls of
// each, which are all rejected: 200 in all. None of the calls fails, and each revoked
// token causes one fetch.
func (p pair) rejected(t *testing.T, calls ...func() error) {
	t.Helper()
	p.Inject(wxtest.Latency(50 * time.Millisecond))
	for _, call := range calls {
		require.NoError(t, call())
	}
	good := p.Stats().Calls()[0]
	const times, each = 5, 20
	for range times {
		age()
		p.Revoke(p.Latest(appID))
		p.Revoke(p.Latest(miniID))
		var wg sync.WaitGroup
		for _, call := range calls {
			for range each {
				wg.Go(func() { assert.NoError(t, call()) })
			}
		}
		wg.Wait()
	}
	tally := p.Stats().Calls()
	assert.Equal(t, times*each*len(calls), tally[40001], "rejected")
	assert.Equal(t, times*each*len(calls), tally[0]-good, "good")
	assert.Equal(t, tally[0]+tally[40001], tally.Total())
	assert.Equal(t, 2*(1+times), p.Stats().Fetches().Total(), "fetches")
	t.Logf("business calls by errcode: %v; tokens fetched: %d", tally, p.Stats().Fetches().Total())
}

func silenceperPair(t *testing.T, p pair) (*officialaccount.OfficialAccount, *miniprogram.MiniProgram) {
	account := silenceperAccount(t, p.world, p.client) // sets the SDK's one HTTP client
	program := wechat.NewWechat().GetMiniProgram(&miniconfig.Config{AppID: miniID, AppSecret: "none", Cache: cache.NewMemory()})
	program.SetAccessTokenContextHandle(adapter.Silenceper(p.mini))
	return account, program
}

// An official account and a mini program share the SDK's one HTTP client.
func TestSilenceperTwoApps(t *testing.T) {
	inPair(t, func(t *testing.T, p pair) {
		account, program := silenceperPair(t, p)
		basic, messages := account.GetBasic(), program.GetCustomerMessage()
		p.rejected(t,
			func() error { _, err := basic.GetAPIDomainIP(); return err },
			func() error { return messages.Send(minimessage.NewCustomerTextMessage("openid", "hello")) })
	})
}

// Users' tokens are left alone, and logins need no token of either app.
func TestSilenceperUsers(t *testing.T) {
	inPair(t, func(t *testing.T, p pair) {
		answer := func(path, body string) {
			p.intercept(path, body)
		}
		answer("/sns/userinfo", `{"errcode":42001,"errmsg":"access_token expired"}`)
		answer("/sns/jscode2session", `{"openid":"o","session_key":"k"}`)
		p.Inject(wxtest.Denial(45009).On(wxtest.TokenCalls))
		account, program := silenceperPair(t, p)

		_, err := account.GetOauth().GetUserInfo("the-users-token", "openid", "")
		assert.ErrorContains(t, err, "errcode=42001", "the user's token, to be refreshed with the user")
		session, err := program.GetAuth().Code2Session("code")
		require.NoError(t, err)
		assert.Equal(t, "o", session.OpenID)
		_, err = account.GetBasic().GetAPIDomainIP()
		var denied *wxtoken.APIError
		require.ErrorAs(t, err, &denied)
		assert.Equal(t, 45009, denied.Code)
	})
}

// intercept answers requests for path, whatever token they carry.
func (p pair) intercept(path, body string) {
	tr := p.client.Transport.(*wxtoken.Transport)
	below := tr.Base
	tr.Base = roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path != path {
			return below.RoundTrip(req)
		}
		if _, own := req.URL.Query()["appid"]; own && req.URL.Query().Has("access_token") {
			return nil, errors.New("a token was added")
		}
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
	})
}

// Two official accounts share http.DefaultClient.
func TestFastwegoTwoApps(t *testing.T) {
	inPair(t, func(t *testing.T, p pair) {
		setDefaultTransport(t, p.client.Transport)
		first, second := fastwegoAccount(p.world), offiaccount.New(offiaccount.Config{Appid: miniID, Secret: "none"})
		second.Logger = nil
		second.AccessToken.GetAccessTokenHandler, second.AccessToken.NoticeAccessTokenExpireHandler =
			adapter.Fastwego[offiaccount.OffiAccount](p.mini)
		p.rejected(t,
			func() error { _, err := util.GetApiDomainIp(first); return err },
			func() error {
				_, err := customservice.SendMessage(second, []byte(`{"touser":"openid","msgtype":"text"}`))
				return err
			})
	})
}
