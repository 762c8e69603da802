package wxtoken_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// A hanging fetcher gets no answer while hangs is true.
type hanging struct {
	countingFetcher
	hangs atomic.Bool
}

func (h *hanging) Fetch(ctx context.Context) (wxtoken.Token, error) {
	if h.hangs.Load() {
		h.fetches.Add(1)
		<-ctx.Done()
		return wxtoken.Token{}, ctx.Err()
	}
	return h.countingFetcher.Fetch(ctx)
}

// failing returns how many calls of src.Token fail for d, if one that has patience for
// as long as that is made after every pause.
func failing(t *testing.T, src *wxtoken.Source, patience, every, d time.Duration) (fails int) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if _, err := src.Token(ctx); err != nil {
			fails++
		}
		cancel()
		time.Sleep(every - time.Since(began))
	}
	return fails
}

// One member reports a good token while the token endpoint hangs: the others have no
// token until that has lasted for three fetches, and get the reported one then.
func TestAFalseReportWhileTheEndpointHangs(t *testing.T) {
	for _, test := range []struct {
		timeout  time.Duration // of a fetch
		members  int
		patience time.Duration
		every    time.Duration
		most     int // calls that fail
	}{
		{10 * time.Second, 2, time.Second, time.Second, 40},
		{10 * time.Second, 5, 300 * time.Millisecond, 4 * time.Second, 12},
		{10 * time.Second, 3, 2 * time.Second, 50 * time.Second, 3},
		{4 * time.Second, 3, 500 * time.Millisecond, 700 * time.Millisecond, 30},
	} {
		bubble(t, fmt.Sprintf("%d members, fetch timeout %s, a call every %s", test.members, test.timeout, test.every), func(t *testing.T) {
			f, cache := &hanging{countingFetcher: countingFetcher{latency: 200 * time.Millisecond}}, wxtoken.NewMemoryCache()
			var srcs []*wxtoken.Source
			for range test.members {
				srcs = append(srcs, wxtoken.New(f, cache, wxtoken.WithFetchTimeout(test.timeout)))
			}
			for _, src := range srcs {
				require.Equal(t, "token-1", token(t, src))
			}
			time.Sleep(time.Minute)
			f.hangs.Store(true)
			require.NoError(t, srcs[0].Invalidate(t.Context(), "token-1"))
			fails := make([]int, test.members)
			together(test.members, func(i int) {
				time.Sleep(time.Duration(i) * 130 * time.Millisecond)
				if i > 0 {
					fails[i] = failing(t, srcs[i], test.patience, test.every+time.Duration(i)*test.every/9, 30*time.Minute)
				}
			})
			for _, n := range fails {
				assert.LessOrEqual(t, n, test.most)
			}
			assert.LessOrEqual(t, f.fetches.Load(), int64(30))
			t.Logf("%v calls failed, %d fetches", fails, f.fetches.Load())
			// Once the platform answers, nobody gets the reported token instead of waiting for the new one.
			f.hangs.Store(false)
			time.Sleep(11 * time.Minute)
			together(test.members, func(i int) { assert.NotEqual(t, "token-1", token(t, srcs[i])) })
		})
	}
}

// A member that waits for minutes, behind a black hole, holds the others up for one
// lease of 45 s when nobody has a token, and not at all when there is one.
func TestAMemberWithATimeoutOfMinutes(t *testing.T) {
	for timeout, repeatable := range map[time.Duration]bool{50 * time.Second: false, 4 * time.Minute: false, 15 * time.Minute: true, 30 * time.Hour: false, 90 * time.Minute: true} {
		bubble(t, fmt.Sprintf("%s, repeatable=%v", timeout, repeatable), func(t *testing.T) {
			sick, good := &hanging{countingFetcher: countingFetcher{repeatable: repeatable}}, &countingFetcher{latency: 150 * time.Millisecond, repeatable: repeatable}
			sick.hangs.Store(true)
			cache := wxtoken.NewMemoryCache()
			patient := wxtoken.New(sick, cache, wxtoken.WithFetchTimeout(timeout), wxtoken.WithRefreshAhead(7*time.Minute))
			srcs := []*wxtoken.Source{wxtoken.New(good, cache), wxtoken.New(good, cache), wxtoken.New(good, cache)}
			go patient.Token(t.Context()) // it is the first of all
			time.Sleep(time.Second)
			start := time.Now()
			for {
				if _, err := srcs[0].Token(t.Context()); err == nil {
					break
				}
				time.Sleep(time.Second)
			}
			assert.LessOrEqual(t, time.Since(start), 50*time.Second)

			fails := make([]int, len(srcs))
			ctx, cancel := context.WithTimeout(t.Context(), 14*time.Hour)
			defer cancel()
			go func() {
				for ; ctx.Err() == nil; time.Sleep(700 * time.Millisecond) {
					short, cancel := context.WithTimeout(ctx, time.Second)
					_, _ = patient.Token(short)
					cancel()
				}
			}()
			together(len(srcs), func(i int) {
				fails[i] = failing(t, srcs[i], 500*time.Millisecond, time.Duration(i+3)*time.Second, 14*time.Hour)
			})
			assert.Equal(t, []int{0, 0, 0}, fails)
			assert.LessOrEqual(t, sick.fetches.Load(), int64(3), "it leaves the refresh to the others")
			t.Logf("%s without a token at first, %d fetches, %d of the sick one", time.Since(start)-14*time.Hour, good.fetches.Load(), sick.fetches.Load())
		})
	}
}
