package wxtoken

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A Source that was used and dropped is garbage at once, whatever its timer still
// has to do: an application may make one for each of very many apps.
func TestDroppedSourcesAreCollected(t *testing.T) {
	use := func(i int) weak.Pointer[Source] {
		f := FetcherFunc(fmt.Sprint("app", i), func(context.Context) (Token, error) {
			return Token{Value: "t", ExpiresAt: time.Now().Add(2 * time.Hour)}, nil
		})
		s := New(f, nil, WithLocalAge(24*time.Hour))
		_, err := s.Token(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Wait(t.Context()))
		require.NotNil(t, s.fresh.Load(), "it has a timer")
		return weak.Make(s)
	}
	var sources [2000]weak.Pointer[Source]
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range sources {
		sources[i] = use(i)
	}
	alive := func() (n int) {
		runtime.GC()
		for _, s := range sources {
			if s.Value() != nil {
				n++
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return alive() == 0 }, 20*time.Second, 10*time.Millisecond)
	runtime.ReadMemStats(&after)
	left := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / int64(len(sources))
	assert.Less(t, left, int64(1024), "bytes that are left of each, until its timer fires")
	t.Logf("%d bytes are left of each Source", left)
}

// What is left of a dropped Source, its timer, is gone after five minutes.
func TestNoTimerLastsLongerThanFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(FetcherFunc("app", func(context.Context) (Token, error) {
			return Token{Value: "t", ExpiresAt: time.Now().Add(2 * time.Hour)}, nil
		}), nil, WithLocalAge(24*time.Hour))
		for range 3 {
			_, err := s.Token(t.Context())
			require.NoError(t, err)
			require.NotNil(t, s.fresh.Load())
			time.Sleep(5*time.Minute - time.Second)
			synctest.Wait()
			assert.NotNil(t, s.fresh.Load())
			time.Sleep(time.Second)
			synctest.Wait()
			assert.Nil(t, s.fresh.Load())
		}
	})
}
