package wxtoken

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A process that was paused in a flight learns, when it goes on, what the others
// did meanwhile. It does not take the pause for a vain wait.
func TestFlightGoesOnAfterAPause(t *testing.T) {
	s := New(FetcherFunc("app", func(context.Context) (Token, error) {
		return Token{Value: "token-1", ExpiresAt: time.Now().Add(time.Hour)}, nil
	}), nil)
	f := &flight{src: s, started: time.Now().Add(-10 * time.Minute), good: make(chan struct{})}
	tok, err := f.run(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "token-1", tok.Value)
}
