package adapter_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/adapter"
)

// The interfaces and function types of the SDKs, as declared in their sources.
// Package sdktest runs those that can be downloaded.
type (
	silenceperHandle interface {
		GetAccessToken() (accessToken string, err error)
		GetAccessTokenContext(ctx context.Context) (accessToken string, err error)
	}
	chanxuehongServer interface {
		Token() (token string, err error)
		RefreshToken(currentToken string) (token string, err error)
		IID01332E16DF5011E5A9D5A4DB30FED8E1()
	}
	hashMap        map[string]any
	getCustomToken func(key string, refresh bool) hashMap
	weappGetter    func(appid, secret string) (token string, expireIn uint)
	offiAccount    struct{ Appid string }
	fastwegoGet    func(ctx *offiAccount) (accessToken string, err error)
	fastwegoNotice func(ctx *offiAccount) (err error)
	workwxProvider interface {
		GetToken(context.Context) (string, error)
	}
)

// source returns A, B, C ... and moves on to the next when the current one is
// invalidated.
type source struct {
	mu            sync.Mutex
	n             int
	err           error
	invalidateErr error
	reported      []string // arguments of Invalidate
}

func (s *source) Token(ctx context.Context) (wxtoken.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return wxtoken.Token{}, err
	}
	if s.err != nil {
		return wxtoken.Token{}, s.err
	}
	return wxtoken.Token{Value: s.current(), ExpiresAt: time.Now().Add(2 * time.Hour)}, nil
}

func (s *source) current() string { return string(rune('A' + s.n)) }

func (s *source) Invalidate(_ context.Context, rejected string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reported = append(s.reported, rejected)
	if s.invalidateErr == nil && rejected == s.current() {
		s.n++
	}
	return s.invalidateErr
}

// withoutInvalidate is a TokenSource without Invalidate.
type withoutInvalidate struct{ src *source }

func (w withoutInvalidate) Token(ctx context.Context) (wxtoken.Token, error) { return w.src.Token(ctx) }

func TestSilenceper(t *testing.T) {
	src := &source{}
	var handle silenceperHandle = adapter.Silenceper(src)
	got, err := handle.GetAccessToken()
	require.NoError(t, err)
	assert.Equal(t, "A", got)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = handle.GetAccessTokenContext(ctx)
	assert.ErrorIs(t, err, context.Canceled, "the caller's ctx is passed on")
	src.err = errors.New("away")
	_, err = handle.GetAccessToken()
	assert.ErrorIs(t, err, src.err)
}

func TestWorkwx(t *testing.T) {
	src := &source{}
	var provider workwxProvider = adapter.Workwx(src)
	got, err := provider.GetToken(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "A", got)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = provider.GetToken(ctx)
	assert.ErrorIs(t, err, context.Canceled, "the caller's ctx is passed on")
	src.err = errors.New("away")
	got, err = provider.GetToken(t.Context())
	assert.ErrorIs(t, err, src.err)
	assert.Empty(t, got)
}

// core.Client calls Token, and after 40001 or 42001 RefreshToken with the token
// that was rejected, once.
func TestChanxuehong(t *testing.T) {
	src := &source{}
	var server chanxuehongServer = adapter.Chanxuehong(src)
	server.IID01332E16DF5011E5A9D5A4DB30FED8E1()
	old, err := server.Token()
	require.NoError(t, err)
	assert.Equal(t, "A", old)

	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			fresh, err := server.RefreshToken(old)
			assert.NoError(t, err)
			assert.Equal(t, "B", fresh, "a report of the old token returns the new one")
		})
	}
	wg.Wait()
	fresh, err := server.RefreshToken("")
	require.NoError(t, err)
	assert.Equal(t, "B", fresh, "nothing was rejected")

	src.invalidateErr = errors.New("cache down")
	fresh, err = server.RefreshToken("B")
	require.NoError(t, err)
	assert.Equal(t, "B", fresh, "tried again")
	src.err = errors.New("away")
	_, err = server.RefreshToken("B")
	assert.ErrorIs(t, err, src.err)
}

// BaseClient calls with false for each request, and after a rejection with true
// and then false.
func TestPowerWeChat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{}
		var fn getCustomToken = adapter.PowerWeChat[hashMap](src)
		value := func(refresh bool) string {
			m := fn("powerwechat.access_token.0cc1", refresh)
			assert.GreaterOrEqual(t, m["expires_in"].(float64), 1.0)
			return m["access_token"].(string)
		}
		assert.Equal(t, hashMap{"access_token": "A", "expires_in": 7200.0}, fn("", false))

		// Eight calls were rejected with A; they report it one after another.
		for range 8 {
			assert.Equal(t, "B", value(true), "none of them invalidates B")
			assert.Equal(t, "B", value(false))
		}
		time.Sleep(9 * time.Second)
		assert.Equal(t, "B", value(true), "probably still about A")
		time.Sleep(time.Second)
		assert.Equal(t, "C", value(true), "B itself is rejected")
		assert.Equal(t, "C", value(false))

		src.err = errors.New("away")
		assert.Equal(t, hashMap{"access_token": "", "expires_in": 0.0}, fn("", false))
		assert.Equal(t, hashMap{"access_token": "", "expires_in": 0.0}, fn("", true))
	})
}

// A rejection before the first token cannot be about one of ours.
func TestPowerWeChatRefreshFirst(t *testing.T) {
	src := &source{}
	assert.Equal(t, "A", adapter.PowerWeChat[hashMap](src)("", true)["access_token"])
	assert.Empty(t, src.reported)
}

func TestPowerWeChatWithoutExpiry(t *testing.T) {
	src := tokenFunc(func() wxtoken.Token { return wxtoken.Token{Value: "A"} })
	assert.Equal(t, hashMap{"access_token": "A", "expires_in": 1.0}, adapter.PowerWeChat[hashMap](src)("", false))
}

type tokenFunc func() wxtoken.Token

func (f tokenFunc) Token(context.Context) (wxtoken.Token, error) { return f(), nil }

// Client.AccessToken calls the getter when its own cache has dropped the token.
func TestWeapp(t *testing.T) {
	src := &source{}
	var getter weappGetter = adapter.Weapp(src)
	token, expireIn := getter("wx1", "secret")
	assert.Equal(t, "A", token)
	assert.EqualValues(t, 1, expireIn, "0 would mean no limit to some caches")
	src.err = errors.New("away")
	token, expireIn = getter("wx1", "secret")
	assert.Empty(t, token)
	assert.EqualValues(t, 1, expireIn)
}

// Client.httpDo calls get for each request, and after 40001 or 42001 notice and
// then get.
func TestFastwego(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, account := &source{}, &offiAccount{}
		var get fastwegoGet
		var notice fastwegoNotice
		get, notice = adapter.Fastwego[offiAccount](src)
		value := func() string {
			token, err := get(account)
			assert.NoError(t, err)
			return token
		}
		require.NoError(t, notice(account), "no token was returned yet")
		assert.Equal(t, "A", value())
		for range 8 {
			require.NoError(t, notice(account))
			assert.Equal(t, "B", value())
		}
		time.Sleep(10 * time.Second)
		src.invalidateErr = errors.New("cache down")
		require.NoError(t, notice(account), "the call is retried anyway")
		assert.Equal(t, "B", value())
		src.invalidateErr = nil
		require.NoError(t, notice(account))
		assert.Equal(t, "C", value())

		src.err = errors.New("away")
		_, err := get(account)
		assert.ErrorIs(t, err, src.err)
	})
}

func TestWithoutInvalidate(t *testing.T) {
	src := withoutInvalidate{&source{}}
	_, notice := adapter.Fastwego[offiAccount](src)
	require.NoError(t, notice(nil))
	assert.Equal(t, "A", adapter.PowerWeChat[hashMap](src)("", true)["access_token"])
	token, err := adapter.Chanxuehong(src).RefreshToken("A")
	require.NoError(t, err)
	assert.Equal(t, "A", token)
}

func TestNilSource(t *testing.T) {
	for i, f := range []func(){
		func() { adapter.Silenceper(nil) },
		func() { adapter.Chanxuehong(nil) },
		func() { adapter.PowerWeChat[hashMap](nil) },
		func() { adapter.Weapp(nil) },
		func() { adapter.Fastwego[offiAccount](nil) },
		func() { adapter.Workwx(nil) },
	} {
		assert.PanicsWithValue(t, "adapter: TokenSource is nil; give the result of wxtoken.New", f, strconv.Itoa(i))
	}
}

func TestBlindInParallel(t *testing.T) {
	src := &source{}
	fn := adapter.PowerWeChat[hashMap](src)
	get, notice := adapter.Fastwego[offiAccount](src)
	fn("", false)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			fn("", true)
			assert.Equal(t, "B", fn("", false)["access_token"])
		})
		wg.Go(func() {
			_, err := get(nil)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.NoError(t, notice(nil))
}
