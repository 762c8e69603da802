package serve

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/wxtest"
)

// stable asks as an SDK asks stable_token.
func (r *running) stable(fields map[string]any) reply {
	body, err := json.Marshal(fields)
	require.NoError(r.t, err)
	return r.do("POST", "/cgi-bin/stable_token", "", string(body))
}

func plainPath(appID, secret string) string {
	return "/cgi-bin/token?grant_type=client_credential&appid=" + appID + "&secret=" + url.QueryEscape(secret)
}

// wxtoken's own fetchers serve as SDKs that know nothing about the server.
func TestAnSDKUsesTheServerByChangingAHost(t *testing.T) {
	platform := fakePlatform(t)
	platform.AddCorp("ww1", appSecret)
	c := testConfig(platform)
	c.Apps = append(c.Apps, config.App{ID: "ww1-crm", AppID: "ww1", Secret: appSecret, Type: "wecom", BaseURL: platform.URL, Tickets: []string{"jsapi", "agent_config"}})
	c.Clients[1].Apps = append(c.Clients[1].Apps, "ww1-crm")
	srv := start(t, c)
	sdk := func(f wxtoken.Fetcher) string {
		token, err := f.Fetch(t.Context())
		require.NoError(t, err)
		assert.InDelta(t, 2*time.Hour, time.Until(token.ExpiresAt), float64(30*time.Second))
		return token.Value
	}
	base := wxtoken.WithBaseURL(srv.url)
	first := sdk(wxtoken.NewFetcher("wx1", shopSecret, base))
	assert.Equal(t, platform.Latest("wx1"), first)
	assert.Equal(t, first, sdk(wxtoken.NewStableFetcher("wx1", shopSecret, base)))
	second := sdk(wxtoken.NewFetcher("wx2", blogSecret, base))
	assert.Equal(t, platform.LatestStable("wx2"), second)
	assert.True(t, platform.Honoured(sdk(wxtoken.NewWeComFetcher("ww1", blogSecret, base))))
	assert.Equal(t, 3, platform.Stats().Fetches().Total())

	tickets := wxtoken.New(wxtoken.NewFetcher("wx2", blogSecret, base), nil)
	ticket, err := wxtoken.NewTicketFetcher(tickets, "jsapi", base).Fetch(t.Context())
	require.NoError(t, err)
	assert.Equal(t, platform.LatestTicket("wx2", "jsapi"), ticket.Value)
	agent := wxtoken.New(wxtoken.NewWeComFetcher("ww1", blogSecret, base), nil)
	for _, kind := range []string{"jsapi", "agent_config"} {
		ticket, err = wxtoken.NewTicketFetcher(agent, kind, base).Fetch(t.Context())
		require.NoError(t, err)
		assert.Equal(t, platform.LatestCorpTicket("ww1", appSecret, kind), ticket.Value)
	}
}

// The server answers like the platform: the same fields, and status 200.
func TestAnswersHaveThePlatformsShape(t *testing.T) {
	platform := fakePlatform(t)
	platform.AddCorp("ww1", appSecret)
	c := testConfig(platform)
	for _, id := range []string{"ww1-crm", "ww1-hr"} {
		c.Apps = append(c.Apps, config.App{ID: id, AppID: "ww1", Secret: appSecret, Type: "wecom", BaseURL: platform.URL})
	}
	c.Clients[1].Apps = append(c.Clients[1].Apps, "ww1-crm", "ww1-hr")
	srv := start(t, c)
	token := srv.do("GET", plainPath("wx2", blogSecret), "", "").AccessToken
	require.NotEmpty(t, token)
	tests := map[string]struct {
		method, path, body string
		errcode            int
	}{
		"no appid":           {"GET", plainPath("", shopSecret), "", 41002},
		"no secret":          {"GET", plainPath("wx1", ""), "", 41004},
		"no grant_type":      {"GET", "/cgi-bin/token?appid=wx1&secret=" + shopSecret, "", 40002},
		"a wrong secret":     {"GET", plainPath("wx1", "wrong"), "", 40125},
		"the app's secret":   {"GET", plainPath("wx1", appSecret), "", 40125},
		"an app of others":   {"GET", plainPath("wx2", shopSecret), "", 40013},
		"an unknown app":     {"GET", plainPath("wx9", shopSecret), "", 40013},
		"a GET of stable":    {"GET", "/cgi-bin/stable_token", "", 43002},
		"no JSON":            {"POST", "/cgi-bin/stable_token", "appid=wx1", 41002},
		"no corpid":          {"GET", "/cgi-bin/gettoken?corpsecret=" + blogSecret, "", 41002},
		"no corpsecret":      {"GET", "/cgi-bin/gettoken?corpid=ww1", "", 41004},
		"a wrong corpsecret": {"GET", "/cgi-bin/gettoken?corpid=ww1&corpsecret=wrong", "", 40125},
		"a corp of others":   {"GET", "/cgi-bin/gettoken?corpid=ww1&corpsecret=" + shopSecret, "", 40013},
		"two agents":         {"GET", "/cgi-bin/gettoken?corpid=ww1&corpsecret=" + blogSecret, "", 40013},
		"one of them":        {"GET", "/cgi-bin/gettoken?corpid=ww1-hr&corpsecret=" + blogSecret, "", 0},
		"a ticket":           {"GET", "/cgi-bin/ticket/getticket?type=jsapi&access_token=" + token, "", 0},
		"no token":           {"GET", "/cgi-bin/ticket/getticket?type=jsapi", "", 41001},
		"a made-up token":    {"GET", "/cgi-bin/ticket/getticket?type=jsapi&access_token=x", "", 40001},
		"another ticket":     {"GET", "/cgi-bin/ticket/getticket?type=wx_card&access_token=" + token, "", 40097},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := srv.do(test.method, test.path, "", test.body)
			assert.Equal(t, http.StatusOK, a.Status)
			assert.Equal(t, test.errcode, a.Errcode, a.Errmsg)
			assert.NotEmpty(t, a.Errmsg)
			assert.Equal(t, test.errcode != 0, a.AccessToken == "" && a.Ticket == "")
		})
	}
	assert.NotContains(t, srv.out.String(), token)
	assert.Contains(t, srv.out.String(), `"path":"/cgi-bin/token","status":200,"client":"shop","appid":"wx2","errcode":40013`)
}

// Two servers on one store: the second one has not handed the token out.
func TestATicketForATokenOfAnotherServer(t *testing.T) {
	platform := fakePlatform(t)
	one, two := start(t, testConfig(platform)), start(t, testConfig(platform)) // stable_token returns the same token to both
	token := one.do("GET", plainPath("wx2", blogSecret), "", "").AccessToken
	two.do("GET", "/token?appid=wx2", blogSecret, "")
	a := two.do("GET", "/cgi-bin/ticket/getticket?type=jsapi&access_token="+token, "", "")
	assert.Equal(t, platform.LatestTicket("wx2", "jsapi"), a.Ticket, a.Errmsg)
}

func TestForceRefreshReportsTheCurrentToken(t *testing.T) {
	t.Parallel()
	platform := fakePlatform(t)
	c := testConfig(platform)
	c.ReportsPerMinute = 2
	srv := start(t, c, unhurried)
	ask := map[string]any{"grant_type": "client_credential", "appid": "wx1", "secret": shopSecret, "force_refresh": true}
	first := srv.token()
	assert.Equal(t, first, srv.stable(ask).AccessToken, "too young to be believed")
	time.Sleep(3 * time.Second)
	second := srv.stable(ask)
	assert.NotEqual(t, first, second.AccessToken, second.Errmsg)
	assert.Equal(t, second.AccessToken, srv.token())
	assert.Equal(t, 45011, srv.stable(ask).Errcode, "limited like other reports")
	delete(ask, "force_refresh")
	assert.Equal(t, second.AccessToken, srv.stable(ask).AccessToken)
}

func TestTicketsOfTheServersOwnEndpoint(t *testing.T) {
	platform := fakePlatform(t)
	srv := start(t, testConfig(platform))
	a := srv.do("GET", "/ticket?appid=wx2&type=jsapi", blogSecret, "")
	require.Equal(t, http.StatusOK, a.Status, a.Errmsg)
	assert.Equal(t, platform.LatestTicket("wx2", "jsapi"), a.Ticket)
	assert.Positive(t, a.ExpiresIn)
	assert.Empty(t, a.AccessToken)
	assert.Equal(t, a.Ticket, srv.do("POST", "/ticket/reject", blogSecret, `{"appid":"wx2","type":"jsapi","ticket":"`+a.Ticket+`"}`).Ticket)
	assert.Equal(t, 40097, srv.do("GET", "/ticket?appid=wx2&type=wx_card", blogSecret, "").Errcode)
	assert.Equal(t, 40097, srv.do("GET", "/ticket?appid=wx1&type=jsapi", shopSecret, "").Errcode)
	assert.Equal(t, 40013, srv.do("GET", "/ticket?appid=wx2&type=jsapi", shopSecret, "").Errcode)
	assert.NotContains(t, srv.out.String(), a.Ticket)
}

func TestThePlatformsDenialIsPassedOnToSDKs(t *testing.T) {
	platform := fakePlatform(t)
	platform.Inject(wxtest.Denial(40164).On(wxtest.TokenPath))
	srv := start(t, testConfig(platform))
	a := srv.do("GET", plainPath("wx1", shopSecret), "", "")
	assert.Equal(t, http.StatusOK, a.Status)
	assert.Equal(t, 40164, a.Errcode)
	assert.True(t, strings.HasPrefix(a.Errmsg, "invalid ip"), a.Errmsg)
}
