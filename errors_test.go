package wxtoken

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/errcode"
	"github.com/wxtoken/wxtoken/internal/fetchtest"
)

func TestAPIError(t *testing.T) {
	assert.Equal(t, "wxtoken: platform answered errcode 7: what rid: 1", (&APIError{7, "what rid: 1"}).Error())
	assert.Equal(t, "wxtoken: platform answered errcode 40013 (check the appID)", (&APIError{Code: 40013}).Error())
	var temporary, rejected []int
	for code := -1000; code < 100_000; code++ {
		if (&APIError{Code: code}).Temporary() {
			temporary = append(temporary, code)
		}
		if IsTokenRejected(code) {
			rejected = append(rejected, code)
		}
	}
	assert.Equal(t, []int{-1000, -1, 45011}, temporary)
	assert.Equal(t, []int{40001, 40014, 42001}, rejected)
}

// An error says what to do on the platform that sent it, also in a process that
// has it from the record, and holds the *APIError as it was sent.
func TestAdviceOfFetchers(t *testing.T) {
	var answer string
	base, _ := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) { fetchtest.Answer(200, answer)(w, r) })
	opt := WithBaseURL(base)
	for _, tc := range []struct {
		fetcher Fetcher
		code    int
		says    string
		not     string
	}{
		{NewFetcher("wx1", "s", opt), 45009, "use NewStableFetcher", "force_refresh"},
		{NewStableFetcher("wx1", "s", opt), 45009, "force_refresh", "NewStableFetcher"},
		{NewWeComFetcher("ww1", "s", opt), 45009, "again and again", "table"},
		{NewWeComFetcher("ww1", "s", opt), 60020, "this machine's IP address", "whitelist"},
		{NewWeComFetcher("ww1", "s", opt), 40013, "check the corpID", "appID"},
		{NewWeComFetcher("ww1", "s", opt), 40001, "check the secret", "another system"},
		{NewFetcher("wx1", "s", opt), 40164, "whitelist", "WeCom"},
		{thirdParty{NewFetcher("wx1", "s")}, 40013, "component_appid", "check the appID"},
		{FetcherFunc("mine", func(context.Context) (Token, error) { return Token{}, &APIError{45009, "no"} }), 45009, "quota is spent", "NewStableFetcher"},
	} {
		answer = fmt.Sprintf(`{"errcode":%d,"errmsg":"no"}`, tc.code)
		cache := NewMemoryCache()
		first, second := New(tc.fetcher, cache), New(tc.fetcher, cache)
		for _, src := range []*Source{first, second} {
			_, err := src.Token(t.Context())
			assert.ErrorContains(t, err, tc.says)
			assert.NotContains(t, err.Error(), tc.not)
			var denied *APIError
			require.ErrorAs(t, err, &denied)
			assert.Equal(t, APIError{tc.code, "no"}, *denied)
		}
	}
}

// A thirdParty is a Fetcher of another package of this module, which says more
// than the HTTPFetcher that it embeds.
type thirdParty struct{ *HTTPFetcher }

func (thirdParty) Platform() errcode.Platform { return errcode.ThirdParty }

func (thirdParty) Fetch(context.Context) (Token, error) { return Token{}, &APIError{40013, "no"} }

func TestCooldownError(t *testing.T) {
	refused := &APIError{Code: 40125, Message: "invalid appsecret"}
	err := error(&CooldownError{Until: time.Date(2026, 5, 1, 8, 0, 0, 0, time.FixedZone("", 8*3600)), Err: refused})
	assert.Equal(t, refused.Error()+" (not asked again before 2026-05-01T00:00:00Z)", err.Error())
	assert.ErrorIs(t, err, refused)
}
