package wxtoken_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

func TestTokenValid(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		now := time.Now()
		assert.False(t, wxtoken.Token{}.Valid())
		assert.False(t, wxtoken.Token{ExpiresAt: now.Add(time.Hour)}.Valid())
		assert.False(t, wxtoken.Token{Value: "v", ExpiresAt: now}.Valid())
		assert.True(t, wxtoken.Token{Value: "v", ExpiresAt: now.Add(1)}.Valid())
	})
}

func TestTokenIsPrintedRedacted(t *testing.T) {
	tok := wxtoken.Token{Value: "hidden", ExpiresAt: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	const want = "Token(redacted, expires 2026-11-22T10:00:00Z)"
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		assert.Equal(t, want, fmt.Sprintf(verb, tok), verb)
	}
	assert.Equal(t, want, tok.GoString())
	assert.Equal(t, "Token(none)", wxtoken.Token{}.String())
	b, err := json.Marshal(map[string]any{"t": tok})
	require.NoError(t, err)
	assert.JSONEq(t, `{"t":"`+want+`"}`, string(b))
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "t", tok)
	assert.Contains(t, log.String(), want)
}

func TestOptions(t *testing.T) {
	bubble(t, "the durations scale the protocol", func(t *testing.T) {
		f := &stub{lifetime: 10 * time.Minute}
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
		src := wxtoken.New(f, cache, wxtoken.WithLocalAge(4500*time.Millisecond), wxtoken.WithRefreshAhead(time.Minute))
		token(t, src)
		cache.gets.Store(0)
		for range 500 {
			token(t, src)
			time.Sleep(time.Second)
		}
		assert.InDelta(t, 500/3, cache.gets.Load(), 50, "read again every 3 s")
		assert.EqualValues(t, 1, f.fetches.Load())
		for range 60 {
			token(t, src)
			time.Sleep(time.Second)
		}
		assert.EqualValues(t, 2, f.fetches.Load())
	})
	bubble(t, "zero and less are the defaults", func(t *testing.T) {
		f := &stub{}
		src := wxtoken.New(f, nil, wxtoken.WithLocalAge(0), wxtoken.WithRefreshAhead(-1), wxtoken.WithFetchTimeout(0),
			wxtoken.WithObserver(nil), wxtoken.WithLogger(nil), wxtoken.WithEncryption())
		for range 6890 {
			token(t, src)
			time.Sleep(time.Second)
		}
		assert.EqualValues(t, 1, f.fetches.Load())
	})
	bubble(t, "refresh-ahead is never more than a quarter of the lifetime", func(t *testing.T) {
		f := &stub{lifetime: time.Minute}
		src := wxtoken.New(f, nil)
		for range 44 {
			require.Equal(t, "token-1", token(t, src))
			time.Sleep(time.Second)
		}
		for range 3600 {
			token(t, src)
			time.Sleep(time.Second)
		}
		assert.LessOrEqual(t, f.fetches.Load(), int64(3600/30))
	})
	bubble(t, "the prefix keeps applications apart", func(t *testing.T) {
		f, cache := &stub{}, wxtoken.NewMemoryCache()
		token(t, wxtoken.New(f, cache, wxtoken.WithKeyPrefix("a:")))
		assert.Equal(t, "token-2", token(t, wxtoken.New(f, cache, wxtoken.WithKeyPrefix("b:"))))
	})
	bubble(t, "a bad key is a clear error", func(t *testing.T) {
		f := &stub{}
		_, err := wxtoken.New(f, nil, wxtoken.WithKeyPrefix("my app:")).Token(t.Context())
		assert.ErrorContains(t, err, "has a space or control byte at offset 2; change WithKeyPrefix")
		assert.Zero(t, f.fetches.Load())
	})
}
