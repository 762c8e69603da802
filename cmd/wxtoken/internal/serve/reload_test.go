package serve

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/wxtest"
)

func TestAppsAndClientsChangeWithoutARestart(t *testing.T) {
	platform := fakePlatform(t)
	platform.AddApp("wx3", appSecret)
	c := testConfig(platform)
	srv := start(t, c)
	first := srv.token()
	source := srv.catalog.Load().apps["wx1"].source

	next := testConfig(platform)
	next.Listen, next.Admin = c.Listen, c.Admin
	next.Apps[1] = config.App{AppID: "wx3", Secret: appSecret, BaseURL: platform.URL} // in place of wx2
	next.Clients = []config.Client{{Name: "shop", Secret: blogSecret, Apps: []string{"wx1", "wx3"}}}
	srv.Reload(checked(t, next), nil)
	assert.Equal(t, http.StatusOK, srv.do("GET", "/token?appid=wx3", blogSecret, "").Status)
	assert.Equal(t, http.StatusForbidden, srv.do("GET", "/token?appid=wx2", blogSecret, "").Status)
	assert.Equal(t, http.StatusUnauthorized, srv.do("GET", "/token?appid=wx1", shopSecret, "").Status)
	assert.Equal(t, first, srv.do("GET", "/token?appid=wx1", blogSecret, "").AccessToken)
	assert.Same(t, source, srv.catalog.Load().apps["wx1"].source, "an app that stays is left alone")
	assert.Contains(t, srv.out.String(), `"msg":"configuration reloaded","apps":2,"added":1,"removed":1,"clients":1`)
	assert.Eventually(t, func() bool { return platform.Latest("wx3") != "" }, 5*time.Second, 5*time.Millisecond)

	// An invalid configuration changes nothing, and is logged.
	for name, change := range map[string]func(c *config.Config){
		"another address": func(c *config.Config) { c.Listen = "127.0.0.1:1" },
		"another store":   func(c *config.Config) { c.Store = "redis://127.0.0.1:1" },
		"another prefix":  func(c *config.Config) { c.KeyPrefix = new(string) },
		"encryption":      func(c *config.Config) { c.Encryption = []string{"k7Vq2mXw9Rt4Hs8Zp3Ln6Bc1k7Vq2mXw9Rt4Hs8Zp3E="} },
	} {
		bad := *next
		change(&bad)
		srv.Reload(checked(t, &bad), nil)
		assert.Equal(t, http.StatusOK, srv.do("GET", "/token?appid=wx3", blogSecret, "").Status, name)
	}
	srv.Reload(nil, errors.New("wxtoken: the configuration is not JSON"))
	assert.Equal(t, http.StatusOK, srv.do("GET", "/token?appid=wx3", blogSecret, "").Status)
	assert.Contains(t, srv.out.String(), "the new configuration is invalid; the server keeps the previous one")
	assert.Contains(t, srv.out.String(), "change only when the server is restarted")
	assert.Contains(t, srv.do("GET", "/metrics", "", "").Errmsg, "tokenserver_configuration_errors_total 5\n")
}

// A new secret takes effect without a fetch, since there is a record.
func TestASecretIsReplacedByReload(t *testing.T) {
	platform := fakePlatform(t)
	c := testConfig(platform)
	srv := start(t, c)
	first := srv.token()
	platform.SetSecret("wx1", "another-hush")
	next := testConfig(platform)
	next.Apps[0].Secret = "another-hush"
	srv.Reload(checked(t, next), nil)
	assert.Equal(t, first, srv.token())
	assert.Equal(t, 1, platform.Stats().Results[wxtest.TokenPath].Total())
	assert.NotContains(t, srv.out.String(), "another-hush")
}

func TestTheLimitsOfClientsOutliveAReload(t *testing.T) {
	platform := fakePlatform(t)
	c := testConfig(platform)
	c.ReportsPerMinute = 2
	srv := start(t, c, leisurely) // a report that is believed makes the next one of an old token
	token := srv.token()
	srv.reject(token)
	srv.reject(token)
	srv.Reload(checked(t, c), nil)
	assert.Equal(t, http.StatusTooManyRequests, srv.reject(token).Status)
}

func TestASecondSignalStopsAtOnce(t *testing.T) {
	platform := fakePlatform(t)
	c := testConfig(platform)
	c.DrainSeconds = 60
	srv := start(t, c)
	srv.token()
	platform.Inject(wxtest.Latency(30 * time.Second).On(wxtest.BusinessCalls))
	go func() {
		req, _ := http.NewRequest("GET", srv.url+"/proxy/wx1/cgi-bin/get_api_domain_ip", nil)
		req.Header.Set("Authorization", "Bearer "+blogSecret)
		_, _ = http.DefaultClient.Do(req)
	}()
	require.Eventually(t, func() bool { return platform.Stats().Faults["latency"] > 0 }, 5*time.Second, time.Millisecond)
	srv.stop()
	require.Eventually(t, func() bool { return srv.do("GET", "/readyz", "", "").Status == 503 }, 5*time.Second, time.Millisecond)
	start := time.Now()
	srv.now()
	assert.NoError(t, <-srv.done)
	srv.done <- nil
	assert.Less(t, time.Since(start), 2*time.Second, "neither for the drain nor for the request")
	assert.Contains(t, srv.out.String(), "stopped at once")
}
