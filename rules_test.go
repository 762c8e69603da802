package wxtoken_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A process whose base URL is bad may live for seconds, and be started again and again.
// Others of the same command that ask another host are not kept waiting for it.
func TestTheSameCommandWithAnotherBaseURL(t *testing.T) {
	for name, never := range map[string]error{"denied": nil, "no answer": errors.New("connection reset")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := wxtest.NewPlatform(wxtest.WithApp("wx1", "0123456789abcdef"))
				c := wxtoken.NewMemoryCache()
				client := &http.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
					if req.URL.Host == "good.example" {
						return p.Transport().RoundTrip(req)
					}
					body := io.NopCloser(strings.NewReader(`{"errcode":41002,"errmsg":"appid missing"}`))
					return &http.Response{StatusCode: http.StatusOK, Body: body, Request: req}, never
				})}
				job := func(host string) error {
					src := wxtoken.New(wxtoken.NewFetcher("wx1", "0123456789abcdef", wxtoken.WithHTTPClient(client), wxtoken.WithBaseURL("https://"+host)), c)
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					defer cancel()
					_, err := src.Token(ctx)
					_ = src.Wait(t.Context())
					return err
				}
				for range 20 { // in each second, one that fails
					assert.Error(t, job("bad.example"))
					time.Sleep(time.Second)
				}
				time.Sleep(500 * time.Millisecond)
				assert.NoError(t, job("good.example"))
			})
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A teamFetcher is an application's own Fetcher, with a method of its own that is called
// Member.
type teamFetcher struct {
	wxtoken.Fetcher
	team string
}

func (f teamFetcher) Member() string { return f.team }

// What the method returns is nothing to wxtoken: it stays out of the record, and a long or
// foreign name keeps no process from reading that.
func TestAFetcherWithAMethodMember(t *testing.T) {
	for _, team := range []string{"ops, payments", strings.Repeat("a", 200), "运维"} {
		t.Run(team[:6], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var fetches atomic.Int64
				c := wxtoken.NewMemoryCache()
				f := teamFetcher{wxtoken.FetcherFunc("app", func(context.Context) (wxtoken.Token, error) {
					fetches.Add(1)
					time.Sleep(time.Second)
					return wxtoken.Token{Value: "token", ExpiresAt: time.Now().Add(time.Hour)}, nil
				}), team}
				for range 3 {
					go func() { _, _ = wxtoken.New(f, c).Token(t.Context()) }()
				}
				time.Sleep(500 * time.Millisecond)
				raw, err := c.Get(t.Context(), "wxtoken:app")
				assert.NoError(t, err)
				assert.NotContains(t, string(raw), team)
				time.Sleep(time.Minute)
				assert.Equal(t, int64(1), fetches.Load(), "fetches")
			})
		})
	}
}
