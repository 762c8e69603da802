package wxtoken_test

import (
	"context"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken"
)

// The zero Source says what is wrong with it, and blames neither cache nor platform.
func TestZeroSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const want = "this Source comes from no constructor; make it with New"
		began := time.Now()
		var src wxtoken.Source
		_, err := src.Token(t.Context())
		assert.EqualError(t, err, "wxtoken: "+want)
		assert.EqualError(t, src.Invalidate(t.Context(), "a token"), "wxtoken: "+want)
		assert.EqualError(t, src.Run(t.Context()), "wxtoken: "+want)
		_, ok := src.Peek()
		assert.False(t, ok)
		assert.NoError(t, src.Wait(t.Context()))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.weixin.qq.com/cgi-bin/get_api_domain_ip", nil)
		assert.NoError(t, err)
		_, err = (&wxtoken.Transport{Source: &src}).RoundTrip(req)
		assert.ErrorContains(t, err, want)
		assert.PanicsWithValue(t, "wxtoken: "+want, func() { wxtoken.NewTicketFetcher(&src, "jsapi") })
		assert.Zero(t, time.Since(began))
	})
}

// The zero FileCache is an error, and leaves nothing in the working directory.
func TestZeroFileCache(t *testing.T) {
	t.Chdir(t.TempDir())
	const want = "this FileCache comes from no constructor; use NewFileCache(dir)"
	var c wxtoken.FileCache
	_, err := c.Get(t.Context(), "key")
	assert.EqualError(t, err, "wxtoken: "+want)
	stored, err := c.CompareAndSwap(t.Context(), "key", nil, []byte("new"), time.Hour)
	assert.False(t, stored)
	assert.EqualError(t, err, "wxtoken: "+want)

	fetcher := wxtoken.FetcherFunc("app", func(context.Context) (wxtoken.Token, error) {
		return wxtoken.Token{Value: "t", ExpiresAt: time.Now().Add(time.Hour)}, nil
	})
	_, err = wxtoken.New(fetcher, &c).Token(t.Context())
	assert.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
	assert.ErrorContains(t, err, want)
	files, err := os.ReadDir(".")
	assert.NoError(t, err)
	assert.Empty(t, files)
}
