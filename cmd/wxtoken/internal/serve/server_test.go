package serve

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

func TestTokenIsServedWithItsRemainingSeconds(t *testing.T) {
	platform := fakePlatform(t)
	srv := start(t, testConfig(platform))

	a := srv.do("GET", "/token?appid=wx1", shopSecret, "")
	require.Equal(t, http.StatusOK, a.Status, a.Errmsg)
	assert.Equal(t, platform.Latest("wx1"), a.AccessToken)
	assert.InDelta(t, 7200, a.ExpiresIn, 10)
	assert.LessOrEqual(t, a.ExpiresIn, 7200)
	assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))

	a = srv.do("GET", "/token?appid=wx2", blogSecret, "")
	assert.Equal(t, platform.LatestStable("wx2"), a.AccessToken)
	assert.Equal(t, 2, platform.Stats().Fetches().Total())
	assert.NotContains(t, srv.out.String(), a.AccessToken)
}

func TestSeveralServersShareTheTokens(t *testing.T) {
	for name, set := range map[string]func(c *config.Config){
		"redis":     func(c *config.Config) { c.Store = "redis://" + servers.Redis(t).Addr() },
		"memcached": func(c *config.Config) { c.Store = "memcached://" + servers.Memcached(t).Addr() },
	} {
		t.Run(name, func(t *testing.T) {
			platform := fakePlatform(t)
			c := testConfig(platform)
			set(c)
			one, two := start(t, c), start(t, c)
			assert.Equal(t, one.token(), two.token())
			assert.Equal(t, 1, platform.Stats().Results[wxtest.TokenPath].Total())
		})
	}
}

func TestRejectedTokenIsReplacedOnce(t *testing.T) {
	t.Parallel()
	platform := fakePlatform(t)
	srv := start(t, testConfig(platform), unhurried)
	first := srv.token()
	assert.Equal(t, first, srv.reject(first).AccessToken, "the rejection of so young a token is not believed")

	platform.Revoke(first)
	time.Sleep(3 * time.Second)
	second := srv.reject(first)
	require.Equal(t, http.StatusOK, second.Status, second.Errmsg)
	assert.NotEqual(t, first, second.AccessToken)
	assert.True(t, platform.Honoured(second.AccessToken))
	assert.Positive(t, second.ExpiresIn)

	// All other holders of the first token report it as well.
	for range 5 {
		assert.Equal(t, second.AccessToken, srv.reject(first).AccessToken)
	}
	assert.Equal(t, second.AccessToken, srv.reject("made-up").AccessToken)
	assert.Equal(t, 2, platform.Stats().Results[wxtest.TokenPath].Total())
	assert.NotContains(t, srv.out.String(), first)
	assert.NotContains(t, srv.out.String(), second.AccessToken)
}

func TestInvalidRequests(t *testing.T) {
	srv := start(t, testConfig(fakePlatform(t)))
	good := `{"appid":"wx1","access_token":"x"}`
	tests := map[string]struct {
		method, path, secret, body string
		status, errcode            int
	}{
		"no secret":              {"GET", "/token?appid=wx1", "", "", 401, 40125},
		"a wrong secret":         {"GET", "/token?appid=wx1", "wrong", "", 401, 40125},
		"half a secret":          {"GET", "/token?appid=wx1", shopSecret[:10], "", 401, 40125},
		"no app":                 {"GET", "/token", shopSecret, "", 400, 41002},
		"an app of others":       {"GET", "/token?appid=wx2", shopSecret, "", 403, 40013},
		"an unknown app":         {"GET", "/token?appid=wx3", shopSecret, "", 403, 40013},
		"a POST for a token":     {"POST", "/token?appid=wx1", shopSecret, "", 405, 43001},
		"a GET that rejects":     {"GET", "/token/reject", shopSecret, "", 405, 43002},
		"no JSON":                {"POST", "/token/reject", shopSecret, "appid=wx1", 400, 47001},
		"JSON of another shape":  {"POST", "/token/reject", shopSecret, `{"appid":1}`, 400, 47001},
		"a large body":           {"POST", "/token/reject", shopSecret, `{"appid":"` + strings.Repeat("x", 5000), 413, 45002},
		"no token to reject":     {"POST", "/token/reject", shopSecret, `{"appid":"wx1"}`, 400, 41001},
		"no app to reject":       {"POST", "/token/reject", shopSecret, `{"access_token":"x"}`, 400, 41002},
		"without a valid secret": {"POST", "/token/reject", "", good, 401, 40125},
		"a reject for others":    {"POST", "/token/reject", shopSecret, strings.Replace(good, "wx1", "wx2", 1), 403, 40013},
		"another path":           {"GET", "/cgi-bin/user/get", shopSecret, "", 404, 40066},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := srv.do(test.method, test.path, test.secret, test.body)
			assert.Equal(t, test.status, a.Status)
			assert.Equal(t, test.errcode, a.Errcode)
			assert.NotEmpty(t, a.Errmsg)
			assert.Empty(t, a.AccessToken)
		})
	}
	a := srv.do("GET", "/token?appid=wx2", shopSecret, "")
	b := srv.do("GET", "/token?appid=wx3", shopSecret, "")
	assert.Equal(t, a.Errmsg, b.Errmsg, "does not reveal which apps exist")
}

func TestBearerIsCaseInsensitive(t *testing.T) {
	srv := start(t, testConfig(fakePlatform(t)))
	req, err := http.NewRequest("GET", srv.url+"/token?appid=wx1", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "bearer "+shopSecret)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestThePlatformsDenialIsPassedOn(t *testing.T) {
	platform := fakePlatform(t)
	platform.SetSecret("wx1", "another")
	srv := start(t, testConfig(platform))
	for range 20 {
		a := srv.do("GET", "/token?appid=wx1", shopSecret, "")
		assert.Equal(t, http.StatusServiceUnavailable, a.Status)
		assert.Equal(t, 40125, a.Errcode)
		assert.Contains(t, a.Errmsg, "invalid appsecret")
	}
	assert.LessOrEqual(t, platform.Stats().Results[wxtest.TokenPath].Total(), 2)
	a := srv.do("GET", "/token?appid=wx1", shopSecret, "")
	wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
	require.NoError(t, err)
	assert.InDelta(t, 60, wait, 10)
}

func TestCacheDownIsASystemError(t *testing.T) {
	t.Parallel()
	redis := servers.Redis(t)
	c := testConfig(fakePlatform(t))
	c.Store = "redis://" + redis.Addr() + "?max_retries=-1"
	redis.Kill()
	srv := start(t, c)
	a := srv.do("GET", "/token?appid=wx1", shopSecret, "")
	assert.Equal(t, http.StatusServiceUnavailable, a.Status)
	assert.Equal(t, -1, a.Errcode)
	assert.Contains(t, a.Errmsg, "store does not answer")

	redis.Restart()
	assert.Eventually(t, func() bool {
		return srv.do("GET", "/token?appid=wx1", shopSecret, "").Status == http.StatusOK
	}, 10*time.Second, 50*time.Millisecond)
}

// One app without a token does not affect the others.
func TestHealthReadinessAndMetrics(t *testing.T) {
	platform := fakePlatform(t)
	platform.Deny("wx1", 40243)
	srv := start(t, testConfig(platform))
	assert.Equal(t, http.StatusOK, srv.do("GET", "/healthz", "", "").Status)
	require.Eventually(t, func() bool { return srv.do("GET", "/readyz", "", "").Status == http.StatusOK },
		5*time.Second, 10*time.Millisecond)

	srv.do("GET", "/token?appid=wx1", shopSecret, "")
	srv.do("GET", "/token?appid=wx2", blogSecret, "")
	srv.eventually("/metrics", "",
		`wxtoken_fetches_total{app="wx1",result="secret"} 1`, `wxtoken_fetches_total{app="wx2",result="ok"} 1`,
		`wxtoken_token_remaining_seconds{app="wx1"} 0`, `wxtoken_token_remaining_seconds{app="wx2"} 7`,
		`tokenserver_requests_total{path="/token",status="503"} 1`, `tokenserver_requests_total{path="/token",status="200"} 1`,
		`go_goroutines `, `process_`)
}

func TestAServerWithoutAnyTokenIsNotReady(t *testing.T) {
	platform := fakePlatform(t)
	platform.Inject(wxtest.Denial(50004))
	srv := start(t, testConfig(platform))
	srv.do("GET", "/token?appid=wx1", shopSecret, "")
	assert.Equal(t, http.StatusServiceUnavailable, srv.do("GET", "/readyz", "", "").Status)
	assert.Equal(t, http.StatusOK, srv.do("GET", "/healthz", "", "").Status)
}

func TestTheLogNamesClientsAndNoSecrets(t *testing.T) {
	srv := start(t, testConfig(fakePlatform(t)), leisurely)
	token := srv.token()
	srv.reject(token)
	srv.do("GET", "/token?appid=wx1&access_token="+token, "x"+shopSecret, "")
	log := srv.out.String()
	assert.Contains(t, log, `"msg":"request","method":"GET","path":"/token","status":200,"client":"shop","appid":"wx1"`)
	assert.Contains(t, log, `"path":"/token/reject","status":200,"client":"shop"`)
	assert.Contains(t, log, `"status":401,"client":""`)
	assert.Contains(t, log, "not believed")
	assert.NotContains(t, log, token)
	assert.NotContains(t, log, shopSecret)
}
