package jssdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

const vectorTicket = "sM4AOVdWfPE4DxkXGEs8VMCPGGVi4C3VM0P37wVUCFvkVAy_90u5h9nbSlYy3-Sl-HhTdfl2fzFy1AOcHKP7qg"

// fixedTicket is a TokenSource of one ticket.
type fixedTicket struct {
	ticket string
	err    error
}

func (f fixedTicket) Token(context.Context) (wxtoken.Token, error) {
	return wxtoken.Token{Value: f.ticket, ExpiresAt: time.Now().Add(time.Hour)}, f.err
}

// The example of the platform's documentation, the same for WeChat and WeCom.
func TestVector(t *testing.T) {
	c := Config{NonceStr: "Wm3WZYTPz0wzccnW", Timestamp: 1414587457}
	for _, pageURL := range []string{"http://mp.weixin.qq.com?params=value", "http://mp.weixin.qq.com?params=value#top"} {
		page, err := signable(pageURL)
		require.NoError(t, err)
		assert.Equal(t, "0f9de62fce790f9a083d5c99e95740ceb90c27ed", c.sign(vectorTicket, page))
	}
}

func TestSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for pageURL, signed := range map[string]string{
			"https://shop.example/": "https://shop.example/",
			"https://shop.example":  "https://shop.example",
			"http://shop.example:8080/a%20b?q=%E5%AD%97&&#/route?x#y": "http://shop.example:8080/a%20b?q=%E5%AD%97&&",
			"HTTPS://Shop.example/Path?code=1&state=":                 "HTTPS://Shop.example/Path?code=1&state=",
			"https://shop.example/字?q=字":                              "https://shop.example/字?q=字",
			"https://[::1]:8443/?a=1&b=jsapi_ticket=x":                "https://[::1]:8443/?a=1&b=jsapi_ticket=x",
		} {
			c, err := Sign(t.Context(), fixedTicket{ticket: vectorTicket}, "wx1", pageURL)
			require.NoError(t, err)
			assert.Equal(t, "wx1", c.AppID)
			assert.Equal(t, time.Now().Unix(), c.Timestamp)
			assert.Regexp(t, "^[A-Z2-7]{26}$", c.NonceStr)
			assert.Equal(t, c.sign(vectorTicket, signed), c.Signature)
			assert.Regexp(t, "^[0-9a-f]{40}$", c.Signature)

			again, err := Sign(t.Context(), fixedTicket{ticket: vectorTicket}, "wx1", pageURL)
			require.NoError(t, err)
			assert.NotEqual(t, c.NonceStr, again.NonceStr)
			assert.NotEqual(t, c.Signature, again.Signature)
		}
	})
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(Config{AppID: "wx1", Timestamp: 1414587457, NonceStr: "n", Signature: "s"})
	require.NoError(t, err)
	assert.JSONEq(t, `{"appId":"wx1","timestamp":1414587457,"nonceStr":"n","signature":"s"}`, string(b))
}

func TestBadInput(t *testing.T) {
	cause := errors.New("the cache is down")
	good := fixedTicket{ticket: vectorTicket}
	const page = "https://shop.example/"
	const form = "is not of the form https://host/path"
	for name, test := range map[string]struct {
		tickets     wxtoken.TokenSource
		appID, page string
		want        string
	}{
		"no URL":              {good, "wx1", "", "URL is empty"},
		"fragment alone":      {good, "wx1", "#/route", "URL is empty"},
		"relative":            {good, "wx1", "/page?code=hushhush", form},
		"no scheme":           {good, "wx1", "shop.example/page?code=hushhush", form},
		"without scheme":      {good, "wx1", "//shop.example/page?code=hushhush", form},
		"file":                {good, "wx1", "file:///page?code=hushhush", form},
		"no host":             {good, "wx1", "https:///page?code=hushhush", form},
		"port alone":          {good, "wx1", "https://:443/?code=hushhush", form},
		"opaque":              {good, "wx1", "https:shop.example?code=hushhush", form},
		"control byte":        {good, "wx1", page + "?code=hushhush\n", form},
		"space":               {good, "wx1", page + "?code=hush hush", form},
		"bad escape":          {good, "wx1", "https://shop%zz.example/?code=hushhush", form},
		"no appID":            {good, "", page, "appID is empty"},
		"newline after appID": {good, "wx1\n", page, "appID holds a space"},
		"no source":           {nil, "wx1", page, "nil TokenSource"},
		"no ticket":           {fixedTicket{err: cause}, "wx1", page, "no ticket to sign with: the cache is down"},
		"ticket in the error": {fixedTicket{vectorTicket, fmt.Errorf("got %s: %w", vectorTicket, cause)}, "wx1", page, "no ticket to sign with: got ***: the cache is down"},
		"empty ticket":        {fixedTicket{}, "wx1", page, "the ticket is empty"},
		"two lines":           {fixedTicket{ticket: vectorTicket + "\n" + vectorTicket}, "wx1", page, "the ticket is empty, or holds a space"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Sign(t.Context(), test.tickets, test.appID, test.page)
			require.ErrorContains(t, err, test.want)
			assert.True(t, strings.HasPrefix(err.Error(), "jssdk: "), err)
			assert.Zero(t, c)
			for ; err != nil; err = errors.Unwrap(err) {
				text := fmt.Sprintf("%v %+v %#v", err, err, err)
				assert.NotContains(t, text, vectorTicket)
				assert.NotContains(t, text, "hush")
			}
		})
	}
	_, err := Sign(t.Context(), fixedTicket{err: cause}, "wx1", page)
	assert.ErrorIs(t, err, cause)
}

// Errors show neither the ticket nor the credentials behind it, whatever the
// platform's faults.
func TestErrorsOfSources(t *testing.T) {
	for _, fault := range []wxtest.Fault{wxtest.Busy(), wxtest.ServerError(502), wxtest.Truncated(), wxtest.LostReply(), wxtest.Denial(40001)} {
		synctest.Test(t, func(t *testing.T) {
			p := wxtest.NewPlatform(wxtest.WithApp("wx1", "hush-hush-secret"))
			client := wxtoken.WithHTTPClient(p.Client())
			access := wxtoken.New(wxtoken.NewFetcher("wx1", "hush-hush-secret", client), nil)
			tickets := wxtoken.New(wxtoken.NewTicketFetcher(access, "jsapi", client), nil)
			p.Inject(fault.On(wxtest.TicketPath))
			_, err := Sign(t.Context(), tickets, "wx1", "https://shop.example/")
			require.Error(t, err)
			text := fmt.Sprintf("%v %+v", err, err)
			assert.NotContains(t, text, "hush")
			assert.NotContains(t, text, p.Latest("wx1"))
			if ticket := p.LatestTicket("wx1", "jsapi"); ticket != "" {
				assert.NotContains(t, text, ticket)
				assert.NotContains(t, text, ticket[:20])
			}
		})
	}
}

func FuzzSignable(f *testing.F) {
	for _, s := range []string{"https://h/?a#b", "http://h", "//h", "https://h/ x", "a:b", "#", "https://h\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		page, err := signable(s)
		if err != nil {
			require.Empty(t, page)
			return
		}
		require.True(t, strings.HasPrefix(s, page))
		require.False(t, strings.ContainsAny(page, "# \n\r\t\x00"), page)
		require.True(t, bytes.HasPrefix(bytes.ToLower([]byte(page)), []byte("http")))
		again, err := signable(page)
		require.NoError(t, err)
		require.Equal(t, page, again)
	})
}
