package wxtoken_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

func TestWaitOutlastsTheEvents(t *testing.T) {
	for _, takes := range []time.Duration{time.Millisecond, time.Second, time.Hour} {
		bubble(t, "of an observer that takes "+takes.String(), func(t *testing.T) {
			var delivered atomic.Int64
			src := wxtoken.New(&stub{}, nil, wxtoken.WithObserver(func(wxtoken.Event) {
				time.Sleep(takes)
				delivered.Add(1)
			}))
			token(t, src)
			if takes == time.Hour { // another flight begins and ends meanwhile
				time.Sleep(time.Minute)
				token(t, src)
			}
			ctx, cancel := context.WithTimeout(t.Context(), takes/2)
			defer cancel()
			assert.ErrorIs(t, src.Wait(ctx), context.DeadlineExceeded)
			require.NoError(t, src.Wait(t.Context()))
			assert.EqualValues(t, 1, delivered.Load())
			assert.NoError(t, src.Wait(ctx), "idle")
		})
	}
}
