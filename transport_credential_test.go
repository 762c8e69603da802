package wxtoken_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A token that the caller put there is replaced if one of the Sources has handed
// it out, to whomever, and then with a token of that Source.
func TestTransportReplacesWhatWasHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "s1"), wxtest.WithApp("wx2", "s2"), wxtest.WithApp("wx3", "s3"))
		source := func(app, secret string) *wxtoken.Source {
			return wxtoken.New(wxtoken.NewFetcher(app, secret, wxtoken.WithHTTPClient(p.Client())), nil)
		}
		one, two, wrapped := source("wx1", "s1"), source("wx2", "s2"), struct{ *wxtoken.Source }{source("wx3", "s3")}
		client := &http.Client{Transport: &wxtoken.Transport{
			Source: one, Others: []wxtoken.TokenSource{two, wrapped}, Base: p.Transport(),
		}}
		call := func(token string) string {
			resp, err := client.Get(apiURL + "?access_token=" + token)
			require.NoError(t, err)
			return readAll(t, resp)
		}
		for app, src := range map[string]wxtoken.TokenSource{"wx1": one, "wx2": two, "wx3": wrapped} {
			var kept []string
			for range 3 {
				kept = append(kept, token(t, src)) // as an SDK does that adds it by itself
				time.Sleep(20 * time.Minute)
				p.Revoke(p.Latest(app))
				assert.Contains(t, call(kept[len(kept)-1]), "ip_list", app)
			}
			for _, old := range kept {
				assert.Contains(t, call(old), "ip_list", "kept by a slow part of the application")
			}
		}
		fetched := p.Stats().Fetches().Total()
		assert.Equal(t, 3*4, fetched)

		before := p.Stats().Calls().Total()
		stranger := p.Issue("wx1")
		p.Revoke(stranger)
		for _, value := range []string{stranger, "user-token", "x"} {
			assert.Contains(t, call(value), `"errcode":400`)
		}
		assert.Equal(t, before+3, p.Stats().Calls().Total(), "sent once each")
		assert.Equal(t, fetched, p.Stats().Fetches().Total())
	})
}

// Other TokenSources cannot say what they handed out: the Transport remembers
// what it got, and asks those that can be told of a rejection what they have.
func TestTransportOtherTokenSources(t *testing.T) {
	plain := tokenFunc(func(context.Context) (wxtoken.Token, error) { return wxtoken.Token{Value: "plain-1"}, nil })
	away := &rotatingSource{first: "away-1", failFrom: 1}
	stuck := &blockingSource{at: 1}
	for _, tc := range []struct {
		name, value, sent string
		others            []wxtoken.TokenSource
	}{
		{"added before", "token-1", "token-1 token-2", nil},
		{"never asked for", "other-1", "other-1 token-2", []wxtoken.TokenSource{plain, &rotatingSource{first: "other-1"}}},
		{"not to be told", "plain-1", "plain-1", []wxtoken.TokenSource{plain}},
		{"not its token", "stranger", "stranger", []wxtoken.TokenSource{away, plain}},
		{"one has no token", "other-1", "other-1 token-2", []wxtoken.TokenSource{away, &rotatingSource{first: "other-1"}}},
		{"one does not answer", "stranger", "stranger", []wxtoken.TokenSource{stuck}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := &platform{answers: []string{"{}", rejection, rejection}}
				tr := &wxtoken.Transport{Source: &rotatingSource{}, Others: tc.others, Base: base}
				_, err := tr.RoundTrip(get(t, apiURL))
				require.NoError(t, err)
				start := time.Now()
				resp, err := tr.RoundTrip(get(t, apiURL+"?access_token="+tc.value))
				require.NoError(t, err)
				assert.Equal(t, rejection, readAll(t, resp))
				assert.LessOrEqual(t, time.Since(start), time.Second)
				want := "access_token=" + strings.ReplaceAll(tc.sent, " ", " access_token=")
				assert.Equal(t, strings.Fields(want), base.queries()[1:])
			})
		})
	}
}

// A Transport knows the values that it got from such a source when they are no
// longer the current ones.
func TestTransportRemembersOldTokens(t *testing.T) {
	base, src := &platform{answers: []string{"{}", rejection, "{}"}}, &rotatingSource{}
	tr := &wxtoken.Transport{Source: src, Base: base}
	_, err := tr.RoundTrip(get(t, apiURL))
	require.NoError(t, err)
	require.NoError(t, src.Invalidate(t.Context(), "token-1")) // another process
	resp, err := tr.RoundTrip(get(t, apiURL+"?access_token=token-1"))
	require.NoError(t, err)
	assert.Equal(t, "{}", readAll(t, resp))
	assert.Equal(t, []string{"access_token=token-1", "access_token=token-1", "access_token=token-2"}, base.queries())
}

// What takes no token, or another one, is sent as it is, once, whatever the
// answer, and although no token can be had.
func TestTransportOtherCredentials(t *testing.T) {
	for _, request := range []string{
		"GET /sns/userinfo?access_token=USER&openid=o",
		"GET /sns/auth?access_token=USER&openid=o",
		"GET /sns/jscode2session?appid=wx1&secret=s&js_code=c&grant_type=authorization_code",
		"GET /sns/oauth2/access_token?appid=wx1&secret=s&code=c",
		"GET /sns/oauth2/refresh_token?appid=wx1&refresh_token=r",
		"GET /sns/component/jscode2session?component_access_token=DEAD",
		"GET /cgi-bin/token?grant_type=client_credential&appid=wx1&secret=s",
		"GET /cgi-bin/token/?appid=wx1",
		`POST /cgi-bin/stable_token {"appid":"wx1","secret":"s"}`,
		`POST /cgi-bin/clear_quota/v2 {"appid":"wx1","appsecret":"s"}`,
		"GET /api/getToken?appid=1105&secret=s",
		`POST /cgi-bin/component/api_component_token {"component_verify_ticket":"t"}`,
		`POST /cgi-bin/component/api_query_auth?component_access_token=DEAD {}`,
		`POST /cgi-bin/component/api_authorizer_token?access_token=DEAD {"authorizer_refresh_token":"r"}`,
		"POST /wxa/fastregisterweapp?action=create&component_access_token=DEAD {}",
		"POST /wxa/fastregisterweapp?component%5Faccess%5ftoken=DEAD&action=create {}",
		"POST /cgi-bin/account/x?component_access_token= {}",
		"GET /wxa/msg_sec_check?cloudbase_access_token=CLOUD",
		"GET /cgi-bin/gettoken?corpid=ww1&corpsecret=s",
		`POST /cgi-bin/service/get_suite_token {"suite_ticket":"t"}`,
		`POST /cgi-bin/service/get_provider_token {"provider_secret":"s"}`,
		"GET /cgi-bin/service/getuserinfo3rd?access_token=SUITE&code=c",
		"POST /cgi-bin/service/get_corp_token?suite_access_token=DEAD {}",
		"POST /cgi-bin/tag/list?suite_access_token=DEAD&access_token=x {}",
		"POST /cgi-bin/corp/x?a=1&provider_access_token=DEAD {}",
		// other ways of writing a path
		"GET //sns/userinfo?access_token=USER",
		"GET /./sns//userinfo?access_token=USER",
		"GET /cgi-bin/../sns/userinfo?access_token=USER",
		"GET /%73ns/userinfo?access_token=USER",
		"GET /sns%2Fuserinfo?access_token=USER",
		"GET /cgi-bin//component/x",
		"GET /cgi-bin/%2e%2e/cgi-bin/token",
	} {
		t.Run(request, func(t *testing.T) {
			method, rest, _ := strings.Cut(request, " ")
			target, body, _ := strings.Cut(rest, " ")
			req, err := http.NewRequest(method, "https://api.weixin.qq.com"+target, strings.NewReader(body))
			require.NoError(t, err)
			base, src := &platform{answers: []string{rejection}}, &rotatingSource{first: "DEAD", failFrom: 1}
			resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(req)
			require.NoError(t, err)
			assert.Equal(t, rejection, readAll(t, resp))
			require.Len(t, base.sent, 1)
			assert.Same(t, req, base.sent[0], "passed on untouched")
			assert.Equal(t, []string{body}, base.bodies)
			assert.Zero(t, src.asked)
			assert.Empty(t, src.rejected)
		})
	}
	opaque := get(t, apiURL)
	opaque.URL.Path, opaque.URL.Opaque = "", "//api.weixin.qq.com/sns/user%69nfo"
	_, err := (&wxtoken.Transport{Source: &rotatingSource{failFrom: 1}, Base: &platform{answers: []string{"{}"}}}).RoundTrip(opaque)
	assert.NoError(t, err)
}

// Requests that only look like those above take a token.
func TestTransportLookAlikes(t *testing.T) {
	for _, target := range []string{
		"/", "", "/cgi-bin/", "/cgi-bin/tokens", "/cgi-bin/token/x", "/cgi-bin/stable_token2", "/cgi-bin/clear_quota",
		"/cgi-bin/component", "/cgi-bin/components/x", "/cgi-bin/sns/x", "/sns", "/snsx/y", "/wxa/sns/x", "/cgi-bin/services/x",
		"/sns/../cgi-bin/user/info", "/cgi-bin/user/info?next=/sns/userinfo", "/cgi-bin/ticket/getticket?type=jsapi",
		"/cgi-bin/user/info?x=component_access_token=y", "/cgi-bin/user/info?my_component_access_token=y",
		"/cgi-bin/corpgroup/corp/gettoken", "/cgi-bin/user/info?a%26component_access_token=y",
	} {
		t.Run(target, func(t *testing.T) {
			base := &platform{answers: []string{rejection}}
			_, err := (&wxtoken.Transport{Source: &rotatingSource{}, Base: base}).RoundTrip(get(t, "https://api.weixin.qq.com"+target))
			require.NoError(t, err)
			require.Len(t, base.sent, 2)
			assert.Equal(t, "token-1", base.sent[0].URL.Query().Get("access_token"))
			assert.Equal(t, "token-2", base.sent[1].URL.Query().Get("access_token"))
		})
	}
}
