package errcode

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

var platforms = []Platform{"", WeChat, Stable, WeCom, QQ, ThirdParty}

// Every code that wxtoken's notes on a platform name has advice for it.
func TestAdvice(t *testing.T) {
	for _, p := range platforms {
		for _, code := range []int{-1, -1000, 40001, 40002, 40013, 40014, 40125, 40164, 40243, 41001, 41002, 41004, 42001, 42007,
			43002, 45009, 45011, 50004, 50007, 61004, 61024, 89501, 89503, 89506, 89507} {
			assert.NotEmpty(t, p.Advice(code), "%s %d", p, code)
		}
		assert.Empty(t, p.Advice(0))
		assert.Empty(t, p.Advice(7))
	}
	for p, codes := range map[Platform][]int{
		WeCom:      {40082, 40083, 40084, 40085, 40091, 42009, 45033, 60020},
		ThirdParty: {41018, 42006, 47001, 61003, 61005, 61006, 61007, 61009, 61010, 61011, 61023},
	} {
		for _, code := range codes {
			assert.NotEmpty(t, p.Advice(code), "%s %d", p, code)
		}
	}
}

// Advice is specific to the platform.
func TestAdviceIsForThePlatform(t *testing.T) {
	for _, tc := range []struct {
		p    Platform
		code int
		says string
	}{
		{WeChat, 45009, "NewStableFetcher"},
		{Stable, 45009, "force_refresh"},
		{WeCom, 45009, "again and again"},
		{ThirdParty, 45009, "third-party platform"},
		{WeCom, 40013, "corpID"},
		{WeCom, 40001, "of this app, and of this corporation"},
		{WeCom, 60020, "IP address"},
		{ThirdParty, 40013, "component_appid"},
		{ThirdParty, 61004, "third-party platform's whitelist"},
		{ThirdParty, 61005, "component_verify_ticket"},
		{WeChat, 40164, "app's whitelist"},
		{QQ, 40013, "appID"},
	} {
		assert.Contains(t, tc.p.Advice(tc.code), tc.says, "%s %d", tc.p, tc.code)
	}
	for _, p := range platforms {
		for code := -1000; code < 100_000; code++ {
			if p != WeChat {
				assert.NotContains(t, p.Advice(code), "NewStableFetcher", "%s %d", p, code)
			}
		}
		for _, repeatable := range []bool{false, true} {
			says := p.Conflict(repeatable)
			assert.Equal(t, p == WeChat && !repeatable, strings.Contains(says, "NewStableFetcher"), p)
			assert.Equal(t, p == Stable, strings.Contains(says, "wxtoken reject -force"), p)
			assert.Equal(t, !repeatable && p != Stable && p != WeCom, strings.Contains(says, "another system probably fetches"), p)
		}
	}
}

func TestBusy(t *testing.T) {
	assert.True(t, Busy(-1))
	assert.True(t, Busy(-1000))
	assert.False(t, Busy(0))
	assert.False(t, Busy(45011))
}
