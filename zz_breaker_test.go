package wxtoken_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken"
)

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
