package wxtest_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken/wxtest"
)

func TestAnswerLooksReal(t *testing.T) {
	p := newPlatform(t)
	resp, body := fetchPage(t, p.client, fetchWx1)
	assert.Equal(t, 200, resp.StatusCode)
	assert.Equal(t, "application/json; encoding=utf-8", resp.Header.Get("Content-Type"))
	assert.EqualValues(t, len(body), resp.ContentLength)
	assert.Regexp(t, `^\{"access_token":"[A-Za-z0-9_-]{136,157}","expires_in":7200\}$`, body)

	lengths := map[int]bool{}
	for range 200 {
		lengths[len(p.Issue("wx1"))] = true
	}
	assert.Greater(t, len(lengths), 10, "tokens vary in length")
}

func TestDenials(t *testing.T) {
	const rid = ` rid: [0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$`
	grant := wxtest.TokenPath + "?grant_type=client_credential"
	tests := []struct {
		name, url, message string
		code               int
	}{
		{"nothing", wxtest.TokenPath, "^appid missing", 41002},
		{"no appid", grant + "&secret=s3cret", "^appid missing", 41002},
		{"grant type", wxtest.TokenPath + "?grant_type=password&appid=wx1&secret=s3cret", "^invalid grant_type", 40002},
		{"unknown appid", tokenURL("wx2", "s3cret"), "^invalid appid", 40013},
		{"no secret", grant + "&appid=wx1", "^appsecret missing,", 41004},
		{"wrong secret", tokenURL("wx1", "wrong"), "^invalid appsecret", 40125},
		{"not on the whitelist", tokenURL("listed", "wrong"), "^invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist", 40164},
		{"frozen, before the secret", tokenURL("frozen", "wrong"), "^appsecret is frozen", 40243},
		{"no message known", tokenURL("odd", "s3cret"), "^unknown error", 12345},
		{"another app's secret", tokenURL("frozen", "s3cret"), "", 40243},
		{"unknown path", "/cgi-bin/nosuch?access_token=ISSUED", "^invalid url", 40066},
		{"QQ", strings.Replace(tokenURL("wx2", "s"), wxtest.TokenPath, wxtest.QQPath, 1), "^invalid appid", 40013},
	}
	p := newPlatform(t)
	p.AddApp("listed", "s")
	p.SetWhitelist("listed", "1.2.3.4", "5.6.7.8")
	p.AddApp("frozen", "s")
	p.Deny("frozen", 40243)
	p.AddApp("odd", "s3cret")
	p.Deny("odd", 12345)
	token := p.Issue("wx1")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := p.get(strings.ReplaceAll(tt.url, "ISSUED", token))
			assert.Equal(t, tt.code, a.Errcode)
			assert.Regexp(t, tt.message, a.Errmsg)
			assert.Regexp(t, rid, a.Errmsg)
			assert.Empty(t, a.AccessToken)
		})
	}
	assert.Equal(t, token, p.Latest("wx1"), "a denial issues nothing")
}

func TestSetSecret(t *testing.T) {
	p := newPlatform(t)
	old := p.fetch()
	p.SetSecret("wx1", "new")
	assert.Equal(t, 40125, p.get(tokenURL("wx1", "s3cret")).Errcode)
	assert.True(t, p.Honoured(old), "tokens outlive the secret")
	assert.Zero(t, p.get(tokenURL("wx1", "new")).Errcode)
}

func TestWhitelistAndDenialByIP(t *testing.T) {
	p := newPlatform(t)
	at := func(ip string) int {
		p.client.Transport = p.TransportFrom(ip)
		return p.get(tokenURL("wx1", "s3cret")).Errcode
	}
	p.SetWhitelist("wx1", "10.0.0.1", "10.0.0.2")
	p.Deny("wx1", 89503, "10.0.0.2")
	assert.Equal(t, []int{0, 89503, 40164}, []int{at("10.0.0.1"), at("10.0.0.2"), at("10.0.0.3")})
	p.Deny("wx1", 0, "10.0.0.2")
	p.SetWhitelist("wx1")
	assert.Equal(t, []int{0, 0, 0}, []int{at("10.0.0.1"), at("10.0.0.2"), at("10.0.0.3")})
}

// Each rule of the grace period, shown by the fate of three tokens in a row.
func TestGrace(t *testing.T) {
	tests := []struct {
		name string
		opts []wxtest.Option
		want [3]bool // honoured: first, second, third
		at   time.Duration
	}{
		{"lenient", nil, [3]bool{true, true, true}, 0},
		{"lenient, just before the end", nil, [3]bool{true, true, true}, 5*time.Minute - 1},
		{"lenient, after the grace", nil, [3]bool{false, false, true}, 5 * time.Minute},
		{"strict", []wxtest.Option{wxtest.WithStrictGrace()}, [3]bool{false, true, true}, 0},
		{"strict, after the grace", []wxtest.Option{wxtest.WithStrictGrace()}, [3]bool{false, false, true}, 5 * time.Minute},
		{"none", []wxtest.Option{wxtest.WithGrace(0)}, [3]bool{false, false, true}, 0},
		{"short life", []wxtest.Option{wxtest.WithLifetime(time.Minute)}, [3]bool{false, false, false}, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlatform(t, tt.opts...)
				tokens := [3]string{p.fetch(), p.fetch(), p.fetch()}
				time.Sleep(tt.at)
				for i, token := range tokens {
					assert.Equal(t, tt.want[i], p.Honoured(token), "token %d", i+1)
					assert.Equal(t, tt.want[i], p.call(token) == 0, "token %d", i+1)
				}
				assert.Equal(t, tokens[2], p.Latest("wx1"))
			})
		})
	}
}

func TestStableRepeatsWithWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		first := p.stable(false)
		assert.Equal(t, 7200, first.ExpiresIn)

		time.Sleep(time.Hour)
		again := p.stable(false)
		assert.Equal(t, first.AccessToken, again.AccessToken)
		assert.Equal(t, 3600, again.ExpiresIn)

		time.Sleep(55*time.Minute - time.Second) // 301 s left
		assert.Equal(t, first.AccessToken, p.stable(false).AccessToken)
		time.Sleep(2 * time.Second) // 299 s left
		next := p.stable(false)
		assert.NotEqual(t, first.AccessToken, next.AccessToken)
		assert.Equal(t, 7200, next.ExpiresIn)
		assert.Equal(t, next.AccessToken, p.LatestStable("wx1"))
		assert.True(t, p.Honoured(first.AccessToken), "both are valid")
		time.Sleep(5 * time.Minute)
		assert.False(t, p.Honoured(first.AccessToken))
	})
}

func TestStableWithAShortLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t, wxtest.WithLifetime(time.Minute)) // under the grace
		first := p.stable(false).AccessToken
		time.Sleep(30*time.Second - 1)
		assert.Equal(t, first, p.stable(false).AccessToken)
		time.Sleep(time.Second)
		assert.NotEqual(t, first, p.stable(false).AccessToken)
	})
}

func TestStableIsIsolated(t *testing.T) {
	p := newPlatform(t, wxtest.WithGrace(0))
	assert.Empty(t, p.LatestStable("wx1"))
	stable := p.stable(false).AccessToken
	plain := p.fetch()
	assert.True(t, p.Honoured(stable))
	assert.True(t, p.Honoured(plain))
	p.Revoke(stable)
	assert.NotEqual(t, stable, p.stable(false).AccessToken, "a revoked token is not returned again")
	assert.True(t, p.Honoured(plain))
}

func TestStableWantsPostAndJSON(t *testing.T) {
	p := newPlatform(t)
	assert.Equal(t, 43002, p.get(wxtest.StablePath+strings.TrimPrefix(tokenURL("wx1", "s3cret"), wxtest.TokenPath)).Errcode)
	form := "grant_type=client_credential&appid=wx1&secret=s3cret"
	assert.Equal(t, 41002, p.post(wxtest.StablePath, "application/x-www-form-urlencoded", form).Errcode)
	assert.Equal(t, 41002, p.post(wxtest.StablePath, "application/json", "").Errcode)
	assert.Equal(t, 40125, p.post(wxtest.StablePath, "text/plain",
		`{"grant_type":"client_credential","appid":"wx1","secret":"x"}`).Errcode, "the body counts, not its header")
}

func TestForceRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		leaked := p.stable(false).AccessToken
		second := p.stable(true).AccessToken
		assert.NotEqual(t, leaked, second)
		assert.Equal(t, second, p.stable(true).AccessToken, "not within 30 s")
		assert.True(t, p.Honoured(leaked))
		time.Sleep(30 * time.Second)
		third := p.stable(true).AccessToken
		assert.NotEqual(t, second, third)
		assert.False(t, p.Honoured(leaked), "two forced refreshes invalidate it")
		assert.True(t, p.Honoured(second))

		for range 18 {
			time.Sleep(30 * time.Second)
			assert.Zero(t, p.stable(true).Errcode)
		}
		time.Sleep(30 * time.Second)
		assert.Equal(t, 45009, p.stable(true).Errcode, "20 a day")
		assert.Zero(t, p.stable(false).Errcode)
		time.Sleep(24 * time.Hour)
		assert.Zero(t, p.stable(true).Errcode)
	})
}

func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t, wxtest.WithQuota(5, 3))
		code := func() int { return p.get(tokenURL("wx1", "s3cret")).Errcode }
		p.get(tokenURL("wx1", "wrong")) // uses no quota
		p.Issue("wx1")                  // uses quota
		assert.Equal(t, []int{0, 0, 45011}, []int{code(), code(), code()})
		time.Sleep(time.Minute)
		assert.Equal(t, []int{0, 0, 45009}, []int{code(), code(), code()})
		// A bubble begins at midnight UTC, which is 8 in the morning in Beijing.
		time.Sleep(16*time.Hour - 2*time.Minute)
		assert.Equal(t, 45009, code())
		time.Sleep(time.Minute)
		assert.Zero(t, code())
		assert.Equal(t, wxtest.Tally{0: 5, 40125: 1, 45009: 2, 45011: 1}, p.Stats().Fetches())
	})
}

func TestQuotaDefaults(t *testing.T) {
	p := newPlatform(t)
	for range 2000 {
		p.Issue("wx1")
	}
	assert.Equal(t, 45009, p.get(tokenURL("wx1", "s3cret")).Errcode)
	assert.Zero(t, p.stable(false).Errcode, "stable_token has a quota of its own")

	free := newPlatform(t, wxtest.WithQuota(0, 0))
	for range 2001 {
		free.Issue("wx1")
	}
	free.fetch()
}

func TestStableMinuteQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		for range 10_000 {
			p.stable(false)
		}
		assert.Equal(t, 45011, p.stable(false).Errcode)
		time.Sleep(time.Minute)
		assert.Zero(t, p.stable(false).Errcode)
	})
}

func TestCorp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		p.AddCorp("ww1", "a")
		p.AddCorp("ww1", "b")
		get := func(corp, secret string) answer {
			return p.get(fmt.Sprintf("%s?corpid=%s&corpsecret=%s", wxtest.CorpPath, corp, secret))
		}
		assert.Empty(t, p.LatestCorp("ww1", "a"))
		first, other := get("ww1", "a"), get("ww1", "b")
		assert.Equal(t, "ok", first.Errmsg)
		assert.Equal(t, 7200, first.ExpiresIn)
		assert.NotEqual(t, first.AccessToken, other.AccessToken, "each application has its own")
		time.Sleep(time.Hour)
		assert.Equal(t, first.AccessToken, get("ww1", "a").AccessToken)
		p.Revoke(first.AccessToken)
		assert.NotEqual(t, first.AccessToken, get("ww1", "a").AccessToken)
		assert.Equal(t, p.LatestCorp("ww1", "a"), get("ww1", "a").AccessToken)
		time.Sleep(time.Hour)
		assert.False(t, p.Honoured(other.AccessToken))
		assert.NotEqual(t, other.AccessToken, get("ww1", "b").AccessToken)

		assert.Equal(t, []int{41002, 41004, 40013, 40001, 40013}, []int{
			get("", "a").Errcode, get("ww1", "").Errcode, get("ww2", "a").Errcode, get("ww1", "c").Errcode, get("wx1", "s3cret").Errcode,
		})
		assert.Empty(t, p.LatestCorp("ww1", "c"))
		assert.Equal(t, 40013, p.get(tokenURL("ww1", "a")).Errcode, "a corp is no app")
	})
}

func TestQQ(t *testing.T) {
	p := newPlatform(t)
	get := func(appID, secret string) answer {
		return p.get(strings.Replace(tokenURL(appID, secret), wxtest.TokenPath, wxtest.QQPath, 1))
	}
	first := get("wx1", "s3cret")
	assert.Equal(t, 7200, first.ExpiresIn)
	assert.NotEqual(t, first.AccessToken, get("wx1", "s3cret").AccessToken, "each supersedes the previous one")
	assert.True(t, p.Honoured(first.AccessToken), "in its grace period")
	_, body := fetchPage(t, p.client, api+strings.Replace(tokenURL("wx1", "s3cret"), wxtest.TokenPath, wxtest.QQPath, 1))
	assert.Contains(t, body, `"errcode":0,`)
	assert.Equal(t, []int{40013, 40013, 40001, 40001}, []int{
		get("", "s3cret").Errcode, get("nosuch", "s3cret").Errcode, get("wx1", "").Errcode, get("wx1", "wrong").Errcode,
	})
	assert.Equal(t, 40002, p.get(wxtest.QQPath+"?grant_type=password&appid=wx1&secret=s3cret").Errcode)
}

func TestMistakesInTheTestPanic(t *testing.T) {
	p := newPlatform(t)
	assert.PanicsWithValue(t, `wxtest: no app "nosuch": add it with AddApp or WithApp`, func() { p.Latest("nosuch") })
	assert.Panics(t, func() { p.AddApp("wx1", "again") })
	p.AddCorp("ww1", "a")
	assert.Panics(t, func() { p.AddCorp("ww1", "a") })
	assert.Panics(t, func() { wxtest.WithLifetime(time.Millisecond) })
	p.fetch() // no lock is left behind
}
