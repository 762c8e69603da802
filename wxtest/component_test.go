package wxtest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/msgcrypt"
	"github.com/wxtoken/wxtoken/wxtest"
)

const (
	pushToken = "message-token"
	pushKey   = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
)

// A thirdParty is a platform with the component wxc.
type thirdParty struct {
	*wxtest.Platform
	t *testing.T
}

func newThirdParty(t *testing.T, opts ...wxtest.Option) thirdParty {
	return thirdParty{wxtest.NewPlatform(append([]wxtest.Option{wxtest.WithComponent("wxc", "s3cret", pushToken, pushKey)}, opts...)...), t}
}

// post sends JSON, and returns the answer.
func (p thirdParty) post(path string, body map[string]any) map[string]any {
	p.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(p.t, err)
	resp, err := p.Client().Post(api+path, "application/json", strings.NewReader(string(text)))
	require.NoError(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	var object map[string]any
	require.NoError(p.t, json.NewDecoder(resp.Body).Decode(&object))
	return object
}

// component fetches a component_access_token with a new ticket.
func (p thirdParty) component() string {
	p.t.Helper()
	return p.post(wxtest.ComponentPath, p.credentials(p.IssueTicket("wxc")))["component_access_token"].(string)
}

func (p thirdParty) credentials(ticket string) map[string]any {
	return map[string]any{"component_appid": "wxc", "component_appsecret": "s3cret", "component_verify_ticket": ticket}
}

// exchange exchanges a code by api_query_auth.
func (p thirdParty) exchange(access, code string) (info map[string]any, errcode any) {
	p.t.Helper()
	answer := p.post(wxtest.QueryAuthPath+"?component_access_token="+access, map[string]any{"component_appid": "wxc", "authorization_code": code})
	info, _ = answer["authorization_info"].(map[string]any)
	return info, answer["errcode"]
}

func (p thirdParty) refresh(access, appID, refresh string) map[string]any {
	p.t.Helper()
	return p.post(wxtest.AuthorizerPath+"?access_token="+access, map[string]any{
		"component_appid": "wxc", "authorizer_appid": appID, "authorizer_refresh_token": refresh})
}

func TestComponentToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newThirdParty(t)
		good := p.IssueTicket("wxc")
		for name, test := range map[string]struct {
			change map[string]any
			want   float64
		}{
			"no component":   {map[string]any{"component_appid": ""}, 41002},
			"unknown":        {map[string]any{"component_appid": "wxother"}, 61011},
			"no secret":      {map[string]any{"component_appsecret": ""}, 41004},
			"wrong secret":   {map[string]any{"component_appsecret": "x"}, 40125},
			"no ticket":      {map[string]any{"component_verify_ticket": ""}, 41018},
			"unknown ticket": {map[string]any{"component_verify_ticket": "x"}, 61006},
			"not a string":   {map[string]any{"component_verify_ticket": 5}, 47001},
		} {
			body := p.credentials(good)
			for k, v := range test.change {
				body[k] = v
			}
			assert.EqualValues(t, test.want, p.post(wxtest.ComponentPath, body)["errcode"], name)
		}
		first := p.post(wxtest.ComponentPath, p.credentials(good))
		assert.EqualValues(t, 7200, first["expires_in"])
		assert.Equal(t, p.LatestComponent("wxc"), first["component_access_token"])
		second := p.component()
		assert.True(t, p.Honoured(first["component_access_token"].(string)), "in its grace period")
		time.Sleep(5 * time.Minute)
		assert.False(t, p.Honoured(first["component_access_token"].(string)))
		assert.True(t, p.Honoured(second))

		time.Sleep(12 * time.Hour)
		assert.EqualValues(t, 61005, p.post(wxtest.ComponentPath, p.credentials(good))["errcode"])
		p.SetWhitelist("wxc", "10.0.0.1")
		assert.EqualValues(t, 61004, p.post(wxtest.ComponentPath, p.credentials(good))["errcode"])
		p.SetWhitelist("wxc")
		start := map[string]any{"component_appid": "wxc", "component_secret": "s3cret"}
		assert.EqualValues(t, 0, p.post(wxtest.StartPushPath, start)["errcode"])
		resp, err := p.Client().Get(api + wxtest.ComponentPath)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, 1, p.Stats().Results[wxtest.ComponentPath][43002])
	})
}

func TestAuthorization(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newThirdParty(t)
		access := p.component()
		code := p.IssueCode("wxc", "wx1")
		assert.Empty(t, p.RefreshToken("wxc", "wx1"), "its code was not exchanged")
		info, _ := p.exchange(access, code)
		assert.Equal(t, "wx1", info["authorizer_appid"])
		assert.Equal(t, p.RefreshToken("wxc", "wx1"), info["authorizer_refresh_token"])
		assert.True(t, p.Honoured(info["authorizer_access_token"].(string)))
		_, errcode := p.exchange(access, code)
		assert.EqualValues(t, 61009, errcode, "used twice")
		_, errcode = p.exchange("bad", code)
		assert.EqualValues(t, 40014, errcode)
		late := p.IssueCode("wxc", "wx1")
		time.Sleep(10 * time.Minute)
		_, errcode = p.exchange(access, late)
		assert.EqualValues(t, 61010, errcode)

		refresh := p.RefreshToken("wxc", "wx1")
		tok := p.refresh(access, "wx1", refresh)
		assert.Equal(t, p.LatestAuthorizer("wxc", "wx1"), tok["authorizer_access_token"])
		assert.Equal(t, refresh, tok["authorizer_refresh_token"])
		assert.EqualValues(t, 61023, p.refresh(access, "wx1", "bad")["errcode"])
		assert.EqualValues(t, 61003, p.refresh(access, "wx2", refresh)["errcode"])
		assert.EqualValues(t, 40001, p.refresh(tok["authorizer_access_token"].(string), "wx1", refresh)["errcode"], "not the component's token")

		list := p.post(wxtest.AuthorizerListPath+"?component_access_token="+access, map[string]any{"component_appid": "wxc", "offset": 0, "count": 500})
		assert.EqualValues(t, 1, list["total_count"])
		assert.Equal(t, refresh, list["list"].([]any)[0].(map[string]any)["refresh_token"])

		p.ReplaceRefreshToken("wxc", "wx1")
		assert.EqualValues(t, 61023, p.refresh(access, "wx1", refresh)["errcode"])
		p.EndAuthorization("wxc", "wx1")
		assert.EqualValues(t, 61003, p.refresh(access, "wx1", refresh)["errcode"])
		assert.False(t, p.Honoured(tok["authorizer_access_token"].(string)))
	})
}

// Where the platform's documentation is ambiguous, each reading can be selected.
func TestThirdPartyReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newThirdParty(t, wxtest.WithThirdParty(wxtest.ThirdParty{RotateRefreshTokens: true, LatestTicketOnly: true, KeepOnReauthorize: true}))
		old := p.IssueTicket("wxc")
		access := p.component()
		assert.EqualValues(t, 61006, p.post(wxtest.ComponentPath, p.credentials(old))["errcode"])
		info, _ := p.exchange(access, p.IssueCode("wxc", "wx1"))
		first := info["authorizer_refresh_token"].(string)
		next := p.refresh(access, "wx1", first)["authorizer_refresh_token"]
		assert.NotEqual(t, first, next)
		assert.Nil(t, p.refresh(access, "wx1", first)["errcode"], "in transition")
		time.Sleep(5 * time.Minute)
		assert.EqualValues(t, 61023, p.refresh(access, "wx1", first)["errcode"])
		live := p.LatestAuthorizer("wxc", "wx1")
		_, errcode := p.exchange(access, p.IssueCode("wxc", "wx1"))
		require.Nil(t, errcode)
		assert.True(t, p.Honoured(live))
	})
	synctest.Test(t, func(t *testing.T) {
		p := newThirdParty(t, wxtest.WithThirdParty(wxtest.ThirdParty{EmptyRefreshTokens: true, RepeatTickets: true}))
		assert.Equal(t, p.IssueTicket("wxc"), p.IssueTicket("wxc"))
		access := p.component()
		_, _ = p.exchange(access, p.IssueCode("wxc", "wx1"))
		live := p.LatestAuthorizer("wxc", "wx1")
		assert.Equal(t, "", p.refresh(access, "wx1", p.RefreshToken("wxc", "wx1"))["authorizer_refresh_token"])
		_, _ = p.exchange(access, p.IssueCode("wxc", "wx1"))
		assert.False(t, p.Honoured(live))
	})
}

func TestPushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newThirdParty(t)
		box, err := msgcrypt.New(pushToken, pushKey)
		require.NoError(t, err)
		var messages []string
		answer := "success"
		p.PushThrough(wxtest.HandlerClient(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			body, _ := io.ReadAll(r.Body)
			_, rest, _ := strings.Cut(string(body), "<Encrypt>")
			encrypted, _, _ := strings.Cut(rest, "</Encrypt>")
			assert.True(t, box.Signed(q.Get("msg_signature"), q.Get("timestamp"), q.Get("nonce"), encrypted))
			assert.Equal(t, "1", q.Get("own"), "the URL's own query stays")
			message, appID, err := box.Decrypt(encrypted)
			assert.NoError(t, err)
			assert.Equal(t, "wxc", appID)
			messages = append(messages, string(message))
			_, _ = io.WriteString(w, answer)
		})))
		const url = "https://app.example/events?own=1"
		require.NoError(t, p.PushTicket("wxc", url))
		code, err := p.PushAuthorized("wxc", "wx1", url)
		require.NoError(t, err)
		_, err = p.PushAuthorized("wxc", "wx1", url)
		require.NoError(t, err)
		require.NoError(t, p.PushUnauthorized("wxc", "wx1", url))
		for i, want := range [][]string{
			{"<InfoType>component_verify_ticket<", "<ComponentVerifyTicket>ticket@@@", "<CreateTime>946684800<", "<AppId>wxc<"},
			{"<InfoType>authorized<", "<AuthorizerAppid>wx1<", "<AuthorizationCode>" + code + "<"},
			{"<InfoType>updateauthorized<"},
			{"<InfoType>unauthorized<", "<AuthorizerAppid>wx1<"},
		} {
			for _, part := range want {
				assert.Contains(t, messages[i], part)
			}
		}
		answer = "failed"
		assert.ErrorContains(t, p.PushTicket("wxc", url), `status 200 and "failed"`)
		assert.ErrorContains(t, p.PushTicket("wxc", ":"), "push")
	})
	assert.Panics(t, func() { wxtest.NewPlatform(wxtest.WithComponent("wxc", "s", "t", "short")) })
	assert.Panics(t, func() { _ = newThirdParty(t).PushTicket("unknown", "https://app.example") })
}
