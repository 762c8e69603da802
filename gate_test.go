package wxtoken_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/bridge"
	"github.com/wxtoken/wxtoken/internal/endpoint"
)

// A gated Fetcher has a gate that the test moves.
type gated struct {
	stub
	revision atomic.Uint64
	closed   atomic.Pointer[error]
}

func (g *gated) Gate() (bridge.Revision, error) {
	if err := g.closed.Load(); err != nil {
		return bridge.Revision(g.revision.Load()), *err
	}
	return bridge.Revision(g.revision.Load()), nil
}

var errLacking = &endpoint.Unsent{Err: errors.New("wxtoken: something is missing")}

func TestANewRevisionEndsThisProcessesCooldown(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		f := &gated{}
		var lacking atomic.Bool
		lacking.Store(true)
		f.answer = func(int64) error {
			if lacking.Load() {
				return errLacking
			}
			return nil
		}
		src := wxtoken.New(f, nil)
		for range 10 { // the wait grows
			_, err := src.Token(t.Context())
			require.ErrorIs(t, err, errLacking)
			time.Sleep(30 * time.Second)
		}
		_, err := src.Token(t.Context())
		require.Error(t, err)
		lacking.Store(false)
		_, err = src.Token(t.Context())
		require.Error(t, err, "nothing has said that it may be asked again")
		f.revision.Add(1)
		assert.NotEmpty(t, token(t, src))
	})
}

func TestAClosedGateStopsTheToken(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		f := &gated{}
		src := wxtoken.New(f, nil)
		first := token(t, src)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- src.Run(ctx) }()

		why := errors.New("revoked")
		f.closed.Store(&why)
		time.Sleep(45 * time.Second)
		_, err := src.Token(t.Context())
		assert.ErrorIs(t, err, why)
		time.Sleep(3 * time.Hour)
		assert.EqualValues(t, 1, f.fetches.Load(), "Run fetches nothing either")

		f.closed.Store(nil)
		assert.NotEqual(t, first, token(t, src))
		cancel()
		assert.ErrorIs(t, <-ended, context.Canceled)
	})
}
