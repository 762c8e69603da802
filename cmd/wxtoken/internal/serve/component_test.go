package serve

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/wxtest"
)

const (
	componentID = "wxcomponent"
	messageKey  = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	listed      = "wxaaaaaaaaaaaaaaaa"
	unlisted    = "wxbbbbbbbbbbbbbbbb"
)

// withComponent serves a component with one listed authorizer, with a store in files.
func withComponent(t *testing.T, platform *wxtest.Server) *config.Config {
	c := testConfig(platform)
	c.Store = "file://" + t.TempDir()
	c.Components = []config.Component{{
		AppID: componentID, Secret: "component-" + appSecret, Token: "message-token", EncodingAESKey: messageKey,
		Authorizers: []string{listed}, BaseURL: platform.URL,
	}}
	c.Clients[0].Apps = append(c.Clients[0].Apps, listed)
	c.Clients[1].Apps = append(c.Clients[1].Apps, componentID, componentID+"/*")
	return c
}

func TestAThirdPartyPlatform(t *testing.T) {
	platform := wxtest.NewServer(wxtest.WithApp("wx1", appSecret), wxtest.WithApp("wx2", appSecret),
		wxtest.WithComponent(componentID, "component-"+appSecret, "message-token", messageKey))
	t.Cleanup(platform.Close)
	srv := start(t, withComponent(t, platform))
	get := func(id, secret string) reply { return srv.do("GET", "/token?appid="+id, secret, "") }
	hook := srv.url + "/callback/" + componentID
	assert.Error(t, platform.PushTicket(componentID, srv.url+"/callback/wxnobody"))
	require.NoError(t, platform.PushTicket(componentID, hook))
	for _, id := range []string{listed, unlisted} {
		_, err := platform.PushAuthorized(componentID, id, hook)
		require.NoError(t, err)
	}
	a := get(componentID, blogSecret)
	require.Equal(t, http.StatusOK, a.Status, a.Errmsg)
	assert.Equal(t, platform.LatestComponent(componentID), a.AccessToken)
	require.Eventually(t, func() bool { return get(listed, shopSecret).Status == http.StatusOK }, 10*time.Second, 50*time.Millisecond)
	assert.Equal(t, platform.LatestAuthorizer(componentID, listed), get(listed, shopSecret).AccessToken)
	assert.Equal(t, platform.LatestAuthorizer(componentID, listed), get(listed, blogSecret).AccessToken, "the client of all authorizers")
	a = get(unlisted, blogSecret)
	require.Equal(t, http.StatusOK, a.Status, a.Errmsg)
	assert.Equal(t, platform.LatestAuthorizer(componentID, unlisted), a.AccessToken)
	_, text := srv.call("GET", "/proxy/"+unlisted+"/cgi-bin/get_api_domain_ip", nil)
	assert.Contains(t, text, "ip_list")

	for id, secret := range map[string]string{unlisted: shopSecret, componentID: shopSecret, "wxmadeup": blogSecret, "wxBBBBBBBBBBBBBBBB": blogSecret} {
		assert.Equal(t, http.StatusForbidden, get(id, secret).Status, id)
	}
	assert.Contains(t, srv.page("/", ""), "<h2>"+unlisted+"</h2>")
	srv.eventually("/metrics", "", `wxtoken_fetches_total{app="`+componentID+`",result="ok"} 1`)
	assert.NotContains(t, srv.out.String(), "message-token")

	// A reload that adds an authorizer keeps the component as it is.
	next := withComponent(t, platform)
	next.Store = srv.catalog.Load().config.Store
	next.Components[0].Authorizers = []string{listed, unlisted}
	one := srv.catalog.Load().components[componentID]
	srv.Reload(checked(t, next), nil)
	assert.Same(t, one, srv.catalog.Load().components[componentID])
	assert.Equal(t, a.AccessToken, get(unlisted, blogSecret).AccessToken)
}

// A secret in a file can be replaced without a restart, a signal, or an additional
// fetch.
func TestASecretInAFileMayChange(t *testing.T) {
	t.Parallel()
	platform := fakePlatform(t)
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("too-old-hush\n"), 0o600))
	c := testConfig(platform)
	c.Apps[0].Secret = "@" + file
	srv := start(t, c)
	assert.Equal(t, 40125, srv.do("GET", "/token?appid=wx1", shopSecret, "").Errcode)
	require.NoError(t, os.WriteFile(file, []byte(appSecret+"\n"), 0o600))
	require.Eventually(t, func() bool { return srv.do("GET", "/token?appid=wx1", shopSecret, "").Status == http.StatusOK },
		10*time.Second, 100*time.Millisecond)
	assert.NotContains(t, srv.out.String(), "too-old-hush")
}

func TestQQ(t *testing.T) {
	platform := fakePlatform(t)
	platform.AddApp("1109", appSecret)
	c := testConfig(platform)
	c.Apps = append(c.Apps, config.App{AppID: "1109", Secret: appSecret, Type: "qq", BaseURL: platform.URL})
	c.Clients[0].Apps = append(c.Clients[0].Apps, "1109")
	srv := start(t, c)
	a := srv.do("GET", "/token?appid=1109", shopSecret, "")
	assert.Equal(t, platform.Latest("1109"), a.AccessToken, a.Errmsg)
}

func TestEncryptionIsSwitchedOnAndLeavesNothingPlain(t *testing.T) {
	t.Parallel()
	platform := fakePlatform(t)
	c := testConfig(platform)
	c.Store = "file://" + t.TempDir()
	plain := start(t, c)
	first := plain.token()
	c.Encryption = []string{"6b375671326d5877395274344873385a70334c6e3642633141b2c3d4e5f60718"}
	c.PlainRecords = true
	sealed := start(t, c)
	assert.Equal(t, first, sealed.token(), "a plain record is read while encryption is switched on")
	time.Sleep(believed)
	platform.Revoke(first)
	second := sealed.reject(first).AccessToken
	require.NotEqual(t, first, second)
	raw, err := sealed.store.Get(t.Context(), "wxtoken:token:wx1")
	require.NoError(t, err)
	assert.Contains(t, string(raw), `"sealed"`)
	assert.NotContains(t, string(raw), second)
	sealed.eventually("/", "", "<h2>wx1</h2>\n<p>good</p>")
}
