package serve

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/internal/servers"
)

// page returns the page in a language.
func (r *running) page(path, language string) string {
	r.t.Helper()
	req, err := http.NewRequest("GET", "http://"+r.AdminAddr()+path, nil)
	require.NoError(r.t, err)
	req.Header.Set("Accept-Language", language)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	require.Equal(r.t, http.StatusOK, resp.StatusCode, string(text))
	assert.Contains(r.t, resp.Header.Get("Content-Security-Policy"), "default-src 'none'")
	return string(text)
}

// eventually waits until the page contains all of this. What it says of a fetch
// comes from an Event, which is delivered after the token.
func (r *running) eventually(path, language string, says ...string) string {
	r.t.Helper()
	var page string
	require.Eventually(r.t, func() bool {
		page = r.page(path, language)
		for _, s := range says {
			if !strings.Contains(page, s) {
				return false
			}
		}
		return true
	}, 10*time.Second, 20*time.Millisecond, "%q", says)
	return page
}

func TestThePageShowsWhatAnOperatorNeeds(t *testing.T) {
	platform := fakePlatform(t)
	platform.AddApp("wx3", "another")
	redis := servers.Redis(t)
	c := testConfig(platform)
	c.Store = "redis://" + redis.Addr() + "?max_retries=-1"
	c.Apps = append(c.Apps, config.App{AppID: "wx3", Secret: appSecret, BaseURL: platform.URL})
	srv := start(t, c)
	token := srv.token()

	page := srv.eventually("/", "", "4, 3 with a token", "answers in", "Not asked again for", "by this server")
	for _, says := range []string{
		"<h2>wx1</h2>\n<p>good</p>", "1 h 59 min", "redis://127.0.0.1",
		"<h2>wx3</h2>\n<p>no token yet</p>", "Not asked again for", "invalid appsecret", "check the secret", "<h2>wx2:jsapi</h2>",
	} {
		assert.Contains(t, page, says)
	}
	assert.Less(t, strings.Index(page, "<h2>wx3</h2>"), strings.Index(page, "<h2>wx1</h2>"), "tokens with problems come first")
	assert.Contains(t, page, `<section class="bad">`+"\n<h2>wx3")
	for _, secret := range []string{token, platform.LatestStable("wx2"), platform.LatestTicket("wx2", "jsapi"), appSecret, shopSecret} {
		assert.NotContains(t, page, secret)
	}
	chinese := srv.page("/", "zh-CN,zh;q=0.9,en;q=0.8")
	for _, says := range []string{`<html lang="zh-CN">`, "中控服务器", "正常", "1 小时 59 分钟", "由本服务器", "暂停获取", "还没有凭据"} {
		assert.Contains(t, chinese, says)
	}

	// Another process fetched the token that this one serves.
	other := start(t, c)
	other.token()
	other.eventually("/", "", "by another process")

	redis.Kill()
	page = srv.eventually("/", "en", "good; the store does not answer", "connection refused")
	assert.Contains(t, page, `<section class="warn">`)
}

func TestPageSearch(t *testing.T) {
	platform := fakePlatform(t)
	c := testConfig(platform)
	for i := range 150 {
		id := fmt.Sprintf("wxmany%d", i)
		platform.AddApp(id, appSecret)
		c.Apps = append(c.Apps, config.App{AppID: id, Secret: appSecret, BaseURL: platform.URL})
	}
	srv := start(t, c)
	page := srv.page("/", "en")
	assert.Equal(t, shown, strings.Count(page, "<section"))
	assert.Contains(t, page, "53 more apps are not shown")
	assert.Equal(t, 1, strings.Count(srv.page("/?q=WXMANY149", "en"), "<section"))
	page = srv.page("/?q=%3Cscript%3Ealert(1)%3C/script%3E", "en")
	assert.Contains(t, page, "No app of this name")
	assert.NotContains(t, page, "<script>")
}

func TestPageIsForThisMachineOnly(t *testing.T) {
	srv := start(t, testConfig(fakePlatform(t)))
	for host, want := range map[string]int{
		srv.AdminAddr(): 200, "localhost:8902": 200, "[::1]:8902": 200, "127.0.0.1": 200,
		"attacker.example": 403, "attacker.example:8902": 403, "127.0.0.1.attacker.example": 403,
	} {
		req, err := http.NewRequest("GET", "http://"+srv.AdminAddr()+"/", nil)
		require.NoError(t, err)
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		_ = resp.Body.Close()
		assert.Equal(t, want, resp.StatusCode, host)
	}
	assert.Equal(t, 404, srv.do("GET", "/", "", "").Status, "clients have no page")
	host, _, err := net.SplitHostPort(srv.AdminAddr())
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1", host)
}

func TestLanguages(t *testing.T) {
	for header, want := range map[string]language{
		"": english, "zh": chinese, "zh-CN": chinese, "zh-Hant-TW;q=0.5": chinese, "en-GB,zh;q=0.9": english, "zh;q=0.3,en;q=0.2": chinese,
		"fr, de;q=0.9, zh;q=0.1": chinese, "fr": english, "zh;q=0": english, ";;,,q=": english, "ZH-cn": chinese,
	} {
		assert.Equal(t, want, preferred(header), header)
	}
	for key, both := range words {
		assert.NotEmpty(t, both[0], key)
		assert.NotEmpty(t, both[1], key)
		assert.Equal(t, strings.Count(both[0], "%"), strings.Count(both[1], "%"), key)
	}
	for d, want := range map[time.Duration][2]string{
		-time.Second: {"0 s", "0 秒"}, 59 * time.Second: {"59 s", "59 秒"}, time.Hour: {"1 h 0 min", "1 小时 0 分钟"},
		50 * time.Hour: {"2 d", "2 天"}, 61 * time.Second: {"1 min", "1 分钟"},
	} {
		assert.Equal(t, want, [2]string{english.duration(d), chinese.duration(d)})
	}
}

// The probes are also on the page's address, for deployments that do not expose them.
func TestTheAdminListenerHasTheProbes(t *testing.T) {
	srv := start(t, testConfig(fakePlatform(t)))
	srv.token()
	assert.Equal(t, "ok\n", srv.page("/healthz", ""))
	assert.Contains(t, srv.page("/readyz", ""), `"stopping":false`)
	srv.eventually("/metrics", "", `wxtoken_fetches_total{app="wx1",result="ok"} 1`)
	assert.Contains(t, srv.page("/page.css", ""), "prefers-color-scheme")
	_, err := new(net.Dialer).DialContext(context.Background(), "tcp", srv.AdminAddr())
	assert.NoError(t, err)
}
