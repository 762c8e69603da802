package wxtoken_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

func TestEncryption(t *testing.T) {
	k1, k2 := [32]byte{1}, [32]byte{2}
	raw := func(t *testing.T, c wxtoken.Cache) string {
		b, err := c.Get(t.Context(), "wxtoken:stub")
		require.NoError(t, err)
		return string(b)
	}
	bubble(t, "the cache shows nothing", func(t *testing.T) {
		f, cache := &stub{}, wxtoken.NewMemoryCache()
		token(t, wxtoken.New(f, cache, wxtoken.WithEncryption(k1)))
		assert.NotContains(t, raw(t, cache), "token-1")
		assert.Contains(t, raw(t, cache), `{"v":1,"sealed":"`)
		assert.Equal(t, "token-1", token(t, wxtoken.New(f, cache, wxtoken.WithEncryption(k1))))
	})
	bubble(t, "keys are rotated", func(t *testing.T) {
		f, cache := &stub{}, wxtoken.NewMemoryCache()
		for _, keys := range [][][32]byte{{k1}, {k1, k2}, {k2, k1}} {
			assert.Equal(t, "token-1", token(t, wxtoken.New(f, cache, wxtoken.WithEncryption(keys...))))
		}
	})
	bubble(t, "a plain record is read and sealed with WithPlainRecords only", func(t *testing.T) {
		f, cache := &stub{}, wxtoken.NewMemoryCache()
		plain := wxtoken.New(f, cache)
		token(t, plain)
		before := raw(t, cache)
		_, err := wxtoken.New(f, cache, wxtoken.WithEncryption(k1)).Token(t.Context())
		require.ErrorContains(t, err, "WithPlainRecords")
		require.Equal(t, before, raw(t, cache))
		src := wxtoken.New(f, cache, wxtoken.WithEncryption(k1), wxtoken.WithPlainRecords())
		assert.Equal(t, "token-1", token(t, src))
		assert.Error(t, src.Invalidate(t.Context(), "token-1"), "too young")
		age(t)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		assert.Equal(t, "token-2", token(t, src))
		assert.NotContains(t, raw(t, cache), "token-2")
	})
	for name, keys := range map[string][][32]byte{"another key": {k2}, "no key": nil} {
		bubble(t, name+" is an error, and changes nothing", func(t *testing.T) {
			f, cache := &stub{repeatable: true}, wxtoken.NewMemoryCache()
			token(t, wxtoken.New(f, cache, wxtoken.WithEncryption(k1)))
			before := raw(t, cache)
			_, err := wxtoken.New(f, cache, wxtoken.WithEncryption(keys...)).Token(t.Context())
			assert.ErrorContains(t, err, "give WithEncryption the key that sealed it")
			assert.EqualValues(t, 1, f.fetches.Load())
			assert.Equal(t, before, raw(t, cache))
		})
	}
	bubble(t, "a record copied from another app does not open", func(t *testing.T) {
		f, cache := &stub{}, wxtoken.NewMemoryCache()
		token(t, wxtoken.New(&stub{key: "-other"}, cache, wxtoken.WithEncryption(k1)))
		other, err := cache.Get(t.Context(), "wxtoken:stub-other")
		require.NoError(t, err)
		put(t, cache, other)
		_, err = wxtoken.New(f, cache, wxtoken.WithEncryption(k1)).Token(t.Context())
		assert.ErrorContains(t, err, "no key of this process opens it")
	})
}
