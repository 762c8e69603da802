package wxtoken

import (
	"cmp"
	"crypto/rand"
	"log/slog"
	"math/big"
	"slices"
	"time"
)

// An Option configures the [Source] that New makes. Processes that share a credential
// must agree on [WithKeyPrefix] and [WithEncryption], and should agree on the durations,
// which are capped at 24 h.
type Option interface{ apply(*options) }

type options struct {
	prefix       string
	fetchTimeout time.Duration
	refreshAhead time.Duration
	localAge     time.Duration
	extras
}

// extras are the options that a Source looks at after New, and that most have not.
type extras struct {
	keys         [][32]byte
	plainRecords bool
	observer     func(Event) // nil: none
	log          func(Event) // nil: none
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// WithKeyPrefix puts prefix before the [Fetcher]'s Key to make the record's key in the
// cache. The default is "wxtoken:", and "" means no prefix. Key and prefix together
// have at most 250 bytes, without spaces or control characters.
func WithKeyPrefix(prefix string) Option {
	return optionFunc(func(o *options) { o.prefix = prefix })
}

// WithFetchTimeout bounds one fetch, its retries included; one cache call may take a
// fifth of it. The default, also for zero and less, is 10 seconds. If a process dies
// while it fetches, callers without a token block for up to a fifth longer than this,
// at most 45 seconds: a fetch that supersedes the token before ends by then.
func WithFetchTimeout(d time.Duration) Option {
	return optionFunc(func(o *options) { o.fetchTimeout = d })
}

// WithRefreshAhead sets how long before its expiry a token is replaced. The default,
// also for zero and less, is 5 minutes. It is never more than a quarter of the
// token's lifetime, and each [Source] subtracts up to a fifth at random.
func WithRefreshAhead(d time.Duration) Option {
	return optionFunc(func(o *options) { o.refreshAhead = d })
}

// WithLocalAge sets how long a process uses its own copy before it must read the
// cache again. The default, also for zero and less, is 45 seconds. Superseded tokens
// stay valid for 5 minutes, so keep it well under 2 minutes.
func WithLocalAge(d time.Duration) Option {
	return optionFunc(func(o *options) { o.localAge = d })
}

// WithEncryption encrypts the record in the cache with AES-256-GCM. The first key
// encrypts and every key decrypts, so that keys can be rotated: add the new key last
// everywhere, then move it to the front. Without keys the record is plain JSON. With
// keys, a plain record is an error and is not overwritten: see [WithPlainRecords]. A
// process that could not read the record writes no other for two minutes, even if the
// store has lost it, so that one with the wrong keys does not lock out the others.
func WithEncryption(keys ...[32]byte) Option {
	keys = slices.Clone(keys)
	return optionFunc(func(o *options) { o.keys = keys })
}

// WithPlainRecords lets a [Source] with [WithEncryption] also read plain records, and
// encrypt them when it next writes them. Use it while encryption is being switched
// on, and drop it when every process has the keys: otherwise anyone who can write to
// the cache can plant a token there.
func WithPlainRecords() Option {
	return optionFunc(func(o *options) { o.plainRecords = true })
}

// WithObserver calls fn once for each [Event], as soon as the work that it belongs to
// is done. Token never waits for fn. Invalidate does, at most once a minute, when it
// ignores a rejection without reading the cache. fn may use the [Source], must be safe
// for concurrent use and must not panic. Nil, the default, means no observer.
func WithObserver(fn func(Event)) Option {
	return optionFunc(func(o *options) { o.observer = fn })
}

// WithLogger logs Events to l, at their Level, and an outage of the cache once.
// Nil, the default, means no logging.
func WithLogger(l *slog.Logger) Option {
	return optionFunc(func(o *options) { o.log = logTo(l) })
}

func newOptions(opts []Option) options {
	o := options{prefix: "wxtoken:"}
	for _, opt := range opts {
		opt.apply(&o)
	}
	o.fetchTimeout = positive(o.fetchTimeout, 10*time.Second)
	o.refreshAhead = positive(o.refreshAhead, 5*time.Minute)
	o.localAge = positive(o.localAge, 45*time.Second)
	return o
}

// positive returns d, or usual if d is not positive, capped at 24 h, beyond which
// arithmetic on it could overflow.
func positive(d, usual time.Duration) time.Duration {
	return min(cmp.Or(max(d, 0), usual), 24*time.Hour)
}

// jitter returns d less up to a fifth, so that processes do not act in step. It uses
// crypto/rand, as the nonces do, which a test can make deterministic.
func jitter(d time.Duration) time.Duration {
	off, _ := rand.Int(rand.Reader, big.NewInt(int64(d/5)+1)) // never fails
	return d - time.Duration(off.Int64())
}
