package wxtest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/wxtoken/wxtoken/wxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A platform is one with the app wx1 and helper methods for the tests.
type platform struct {
	*wxtest.Platform
	t      *testing.T
	client *http.Client
}

func newPlatform(t *testing.T, opts ...wxtest.Option) platform {
	p := wxtest.NewPlatform(append([]wxtest.Option{wxtest.WithApp("wx1", "s3cret")}, opts...)...)
	return platform{p, t, p.Client()}
}

// get fails the test unless the answer is JSON.
func (p platform) get(url string) answer {
	p.t.Helper()
	a, err := get(p.client, api+url)
	require.NoError(p.t, err)
	return a
}

// fetch asks cgi-bin/token for a token, and fails the test without one.
func (p platform) fetch() string {
	p.t.Helper()
	a := p.get(tokenURL("wx1", "s3cret"))
	require.Zero(p.t, a.Errcode, a.Errmsg)
	return a.AccessToken
}

// call returns the errcode of a business call.
func (p platform) call(token string) int {
	p.t.Helper()
	return p.get("/cgi-bin/get_api_domain_ip?access_token=" + token).Errcode
}

// stable asks stable_token.
func (p platform) stable(force bool) answer {
	p.t.Helper()
	body, err := json.Marshal(map[string]any{
		"grant_type": "client_credential", "appid": "wx1", "secret": "s3cret", "force_refresh": force,
	})
	require.NoError(p.t, err)
	return p.post(wxtest.StablePath, "application/json", string(body))
}

func (p platform) post(url, contentType, body string) answer {
	p.t.Helper()
	resp, err := p.client.Post(api+url, contentType, strings.NewReader(body))
	require.NoError(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	var a answer
	require.NoError(p.t, json.NewDecoder(resp.Body).Decode(&a))
	return a
}

// fetchPage returns a response as it arrived, and its body.
func fetchPage(t *testing.T, client *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := client.Get(url)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp, string(body)
}

func tokenURL(appID, secret string) string {
	return wxtest.TokenPath + "?" + url.Values{
		"grant_type": {"client_credential"}, "appid": {appID}, "secret": {secret},
	}.Encode()
}
