package wxtoken

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/errcode"
	"github.com/wxtoken/wxtoken/internal/fetchtest"
	"github.com/wxtoken/wxtoken/wxtest"
)

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

// What a Source asks a Fetcher about, beyond the interface.
type knownFetcher interface {
	Fetcher
	Repeatable() bool
	fingerprint(salt string) string
	currentFingerprint(ctx context.Context, salt string) (string, error)
	askedPlatform() errcode.Platform
	repeatsFullLife() bool
}

func TestRepeatable(t *testing.T) {
	p := wxtest.NewPlatform(wxtest.WithApp("wx1", fetchtest.Secret))
	client := WithHTTPClient(p.Client())
	plain := NewFetcher("wx1", fetchtest.Secret, client)
	ticket := NewTicketFetcher(New(NewWeComFetcher("ww1", "s"), nil), "jsapi")
	for name, f := range map[string]Fetcher{
		"HTTPFetcher":         plain,
		"twice":               Repeatable(plain),
		"embedded":            struct{ *HTTPFetcher }{plain},
		"hidden":              struct{ Fetcher }{plain},
		"FetcherFunc":         FetcherFunc("mine", plain.Fetch),
		"ticket":              ticket,
		"ticket, embedded":    struct{ *HTTPFetcher }{ticket},
		"stable and embedded": struct{ *HTTPFetcher }{NewStableFetcher("wx1", fetchtest.Secret, client)},
	} {
		t.Run(name, func(t *testing.T) {
			r, ok := Repeatable(f).(knownFetcher)
			require.True(t, ok, "hides what %T has", f)
			assert.True(t, r.Repeatable())
			assert.Equal(t, f.Key(), r.Key())
			assert.Equal(t, platformOf(f), platformOf(r))
			assert.Equal(t, isTicket(f), isTicket(r))
			want := ""
			if known, ok := f.(knownFetcher); ok {
				want = known.fingerprint("salt")
			}
			assert.Equal(t, want, r.fingerprint("salt"))
			now, err := r.currentFingerprint(t.Context(), "salt")
			assert.NoError(t, err)
			assert.Equal(t, want, now)
			if !isTicket(f) {
				tok, err := r.Fetch(t.Context())
				require.NoError(t, err)
				assert.True(t, p.Honoured(tok.Value))
			}
		})
	}
	assert.False(t, plain.Repeatable(), "the argument was changed")

	// Its requests may then be sent again.
	p.Inject(wxtest.LostReply().Times(2))
	_, err := Repeatable(plain).Fetch(t.Context())
	assert.NoError(t, err)
	p.Inject(wxtest.LostReply().Times(1))
	_, err = plain.Fetch(t.Context())
	assert.Error(t, err)

	assert.PanicsWithValue(t, "wxtoken: Repeatable with a nil Fetcher", func() { Repeatable(nil) })
}

// A renamed fetcher has all that a Source knows of it, but the Key.
type renamed struct{ *HTTPFetcher }

func (renamed) Key() string { return "renamed" }

func TestPlatformOf(t *testing.T) {
	fn := func(context.Context) (Token, error) { return Token{}, nil }
	wecom, stable := NewWeComFetcher("ww1", "s"), NewStableFetcher("wx1", "s")
	for name, test := range map[string]struct {
		fetcher Fetcher
		want    errcode.Platform
		ticket  bool
	}{
		"token":               {NewFetcher("wx1", "s"), errcode.WeChat, false},
		"stable":              {stable, errcode.Stable, false},
		"wecom":               {wecom, errcode.WeCom, false},
		"QQ":                  {NewQQFetcher("1105", "s"), errcode.QQ, false},
		"endpoint":            {NewEndpointFetcher("wecom:mine", Endpoint{}), errcode.Platform(""), false},
		"function":            {FetcherFunc("wecom:mine", fn), errcode.Platform(""), false},
		"ticket":              {NewTicketFetcher(New(wecom, nil), "jsapi"), errcode.WeCom, true},
		"ticket of wx":        {NewTicketFetcher(New(stable, nil), "jsapi"), errcode.Stable, true},
		"ticket of function":  {NewTicketFetcher(New(FetcherFunc("mine", fn), nil), "jsapi"), errcode.Platform(""), true},
		"embedded":            {struct{ *HTTPFetcher }{wecom}, errcode.WeCom, false},
		"hidden":              {struct{ Fetcher }{wecom}, errcode.WeCom, false},
		"hidden stable":       {struct{ Fetcher }{stable}, errcode.Stable, false},
		"hidden QQ":           {struct{ Fetcher }{NewQQFetcher("1105", "s")}, errcode.QQ, false},
		"hidden function":     {struct{ Fetcher }{FetcherFunc("mine", fn)}, errcode.Platform(""), false},
		"hidden ticket":       {struct{ Fetcher }{NewTicketFetcher(New(wecom, nil), "jsapi")}, errcode.Platform(""), true},
		"renamed ticket":      {Repeatable(renamed{NewTicketFetcher(New(wecom, nil), "jsapi")}), errcode.WeCom, true},
		"repeatable function": {Repeatable(FetcherFunc("wecom:mine", fn)), errcode.Platform(""), false},
	} {
		assert.Equal(t, test.want, platformOf(test.fetcher), name)
		assert.Equal(t, test.ticket, isTicket(test.fetcher), name)
	}
}

func TestFingerprint(t *testing.T) {
	f, same, other := NewFetcher("wx1", "a"), NewStableFetcher("wx2", "a"), NewFetcher("wx1", "b")
	assert.Regexp(t, "^[0-9a-f]{16}$", f.fingerprint("salt"))
	assert.Equal(t, f.fingerprint("salt"), same.fingerprint("salt"))
	assert.NotEqual(t, f.fingerprint("salt"), other.fingerprint("salt"))
	assert.NotEqual(t, f.fingerprint("salt"), f.fingerprint("pepper"))
	assert.Empty(t, NewFetcher("wx1", "").fingerprint("salt"))
	ticket := NewTicketFetcher(New(f, nil), "jsapi")

	for _, f := range []*HTTPFetcher{f, ticket, new(HTTPFetcher)} {
		now, err := f.currentFingerprint(t.Context(), "salt")
		assert.NoError(t, err)
		assert.Equal(t, f.fingerprint("salt"), now)
	}
	assert.Empty(t, ticket.fingerprint("salt"))

	endpointOf := func(secret string) *HTTPFetcher {
		return NewEndpointFetcher("mine", Endpoint{Params: map[string]string{"id": "1", "secret": secret}})
	}
	assert.Equal(t, endpointOf("a").fingerprint("salt"), endpointOf("a").fingerprint("salt"))
	assert.NotEqual(t, endpointOf("a").fingerprint("salt"), endpointOf("b").fingerprint("salt"))

	// With a function, it is the one of the last fetch, and the current one is that of the next.
	p, secret := wxtest.NewPlatform(wxtest.WithApp("wx1", "a")), "a"
	in := NewFetcher("wx1", "argument", WithHTTPClient(p.Client()), WithSecretFunc(func(context.Context) (string, error) {
		if secret == "" {
			return "", errors.New("vault is sealed")
		}
		return secret, nil
	}))
	assert.Empty(t, in.fingerprint("salt"))
	_, err := in.Fetch(t.Context())
	require.NoError(t, err)
	secret = "b"
	now, err := in.currentFingerprint(t.Context(), "salt")
	require.NoError(t, err)
	assert.Equal(t, other.fingerprint("salt"), now)
	secret = ""
	_, err = in.currentFingerprint(t.Context(), "salt")
	assert.ErrorContains(t, err, "vault is sealed")
	_, err = in.Fetch(t.Context())
	assert.Error(t, err)
	assert.Equal(t, f.fingerprint("salt"), in.fingerprint("salt"))
}

// Entries that nobody asks for again must not pile up.
func TestMemoryCacheForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemoryCache()
		for i := range 10_000 {
			_, err := m.CompareAndSwap(t.Context(), fmt.Sprintf("key%d", i), nil, nil, time.Minute)
			require.NoError(t, err)
			time.Sleep(time.Second)
			assert.LessOrEqual(t, len(m.entries), 120, "after %d s: those of the ttl, and of the minute between sweeps", i)
		}
	})
}

// Callers do not lose patience over a pause of the process, in which the flight
// stood still as well.
func TestPatienceOutlastsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(FetcherFunc("app", func(ctx context.Context) (Token, error) {
			<-ctx.Done()
			return Token{}, ctx.Err()
		}), nil)
		s.mu.Lock()
		s.start(t.Context(), false)
		f := s.flight
		f.since = f.since.Add(-10 * time.Minute)
		s.mu.Unlock()
		overdue := func(after time.Duration) bool {
			time.Sleep(after)
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			return f.overdue
		}
		assert.False(t, overdue(time.Second), "the timer came ten minutes late")
		assert.True(t, overdue(time.Second))

		s.mu.Lock()
		assert.True(t, f.offers(time.Now()))
		f.since = f.since.Add(-10 * time.Minute)
		assert.False(t, f.offers(time.Now()), "a later pause counts as well")
		s.mu.Unlock()

		<-f.done
		f.losePatience() // had the timer fired just before
		assert.False(t, f.patience.Stop(), "no timer outlives the flight")
	})
}

// The timer that ends the fast path may be late, so the last moments of a token
// are left to the path that looks at the clock.
func TestFastPathEndsBeforeTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(time.Minute)
		s := New(FetcherFunc("app", func(context.Context) (Token, error) {
			return Token{Value: "token-1", ExpiresAt: end}, nil
		}), nil, WithLocalAge(time.Hour), WithRefreshAhead(time.Nanosecond))
		fast := func(left time.Duration) bool {
			time.Sleep(time.Until(end) - left)
			_, err := s.Token(t.Context())
			require.NoError(t, err)
			synctest.Wait()
			return s.fresh.Load() != nil
		}
		assert.True(t, fast(20*time.Millisecond))
		assert.False(t, fast(5*time.Millisecond))
	})
}
