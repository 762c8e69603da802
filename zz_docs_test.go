package wxtoken_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/fetchtest"
)

// A lease names the member of a process that has just started only if the name is
// exact, which takes a fixed secret, and a fetch supersedes the token before.
func TestMemberInALease(t *testing.T) {
	hangs := wxtoken.WithHTTPClient(&http.Client{Transport: baseFunc(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	})})
	for name, test := range map[string]struct {
		fetcher func() wxtoken.Fetcher
		named   bool
	}{
		"fixed secret": {func() wxtoken.Fetcher { return stubKeyed{wxtoken.NewFetcher("wx1", fetchtest.Secret, hangs)} }, true},
		"WithSecretFunc": {func() wxtoken.Fetcher {
			ask := func(context.Context) (string, error) { return fetchtest.Secret, nil }
			return stubKeyed{wxtoken.NewFetcher("wx1", "", hangs, wxtoken.WithSecretFunc(ask))}
		}, false},
		"own":        {func() wxtoken.Fetcher { return &countingFetcher{latency: 1 << 40} }, false},
		"repeatable": {func() wxtoken.Fetcher { return stubKeyed{wxtoken.NewStableFetcher("wx1", fetchtest.Secret, hangs)} }, false},
	} {
		bubble(t, name, func(t *testing.T) {
			cache := wxtoken.NewMemoryCache()
			go wxtoken.New(test.fetcher(), cache).Token(t.Context())
			synctest.Wait()
			names := strings.Split(recordOf(t, cache)["lease"].(string), ".")
			assert.Equal(t, test.named, len(names) == 3, names)
		})
	}
}
