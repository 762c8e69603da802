package guard_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/guard"
)

func TestCall(t *testing.T) {
	var none []int
	no := errors.New("no")
	for name, test := range map[string]struct {
		fn   func(context.Context) (int, error)
		want int
		text string // "": no error
		took time.Duration
	}{
		"value":   {func(context.Context) (int, error) { return 7, nil }, 7, "", 0},
		"error":   {func(context.Context) (int, error) { return 7, no }, 0, "no", 0},
		"panic":   {func(context.Context) (int, error) { panic("a secret") }, 0, "wxtoken: it panicked with a string", 0},
		"mistake": {func(context.Context) (int, error) { return none[0], nil }, 0, "wxtoken: it panicked: runtime error: index out of range [0] with length 0", 0},
		"Goexit":  {func(context.Context) (int, error) { runtime.Goexit(); return 7, nil }, 0, "wxtoken: it ended its goroutine", 0},
		"deaf": {func(context.Context) (int, error) { time.Sleep(time.Minute); return 7, nil },
			0, "wxtoken: it did not return in time: context deadline exceeded", time.Second},
		"in time": {func(ctx context.Context) (int, error) { time.Sleep(time.Second); return 7, nil }, 7, "", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limit := time.Second
				if name == "in time" {
					limit++
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				start := time.Now()
				got, err := guard.Call(ctx, "it", test.fn)
				assert.Equal(t, test.want, got)
				assert.Equal(t, test.took, time.Since(start))
				if test.text == "" {
					assert.NoError(t, err)
				} else {
					assert.EqualError(t, err, test.text)
				}
				var unsent *endpoint.Unsent
				assert.False(t, errors.As(err, &unsent), "it was called")
				time.Sleep(time.Minute)
			})
		})
	}
}

func TestCallAfterTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := guard.Call(ctx, "it", func(context.Context) (int, error) {
		t.Error("called")
		return 7, nil
	})
	assert.ErrorIs(t, err, context.Canceled)
	var unsent *endpoint.Unsent
	require.ErrorAs(t, err, &unsent)
}
