package wxtoken

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/guard"
)

// WithSecretFunc calls fn for the secret before each fetch, in place of the secret
// that the constructor was given: for secrets in Vault, a KMS or a file, and for
// secrets that change while the process runs. The secret is not kept; a new one takes
// effect with the next fetch. While the platform is not asked because it denied the
// secret, fn is also called, at most once in 2 s, and a changed secret ends that
// wait.
//
// fn must be safe for concurrent use and respect ctx. It gets half of the fetch's
// time. If it returns an error, panics, is late, or returns a secret that is empty or
// contains a space, a control character or a byte that is not ASCII (the newline at
// the end of a file, for example), Fetch sends nothing and returns an error.
//
// In the Params of [NewEndpointFetcher], the secret replaces {secret}. [NewTicketFetcher]
// has no secret: there, and with a nil fn, Fetch returns an error.
func WithSecretFunc(fn func(context.Context) (string, error)) FetcherOption {
	s := &secretSource{ask: fn} // one for all that this option is given to
	return fetcherOption(func(f *HTTPFetcher) {
		switch {
		case fn == nil:
			f.fault = errors.New("wxtoken: WithSecretFunc: nil function; nothing was sent")
		case f.secret == nil:
			f.fault = errors.New("wxtoken: WithSecretFunc: a ticket needs an access token and no secret; give the option to the access token's fetcher; nothing was sent")
		default:
			f.secret = s
		}
	})
}

// A secretSource is where the secret of an HTTPFetcher comes from. It is safe for
// concurrent use. No field holds the secret, so printing cannot show it.
type secretSource struct {
	fixed func() string                         // nil with WithSecretFunc
	ask   func(context.Context) (string, error) // WithSecretFunc's
	used  atomic.Pointer[[sha256.Size]byte]     // digest of the last one that was used
}

func fixedSecret(secret string) *secretSource {
	return &secretSource{fixed: func() string { return secret }}
}

// checkSecret checks the constructor's secret, unless WithSecretFunc replaces it.
func (f *HTTPFetcher) checkSecret(secret string) error {
	if f.secret.fixed == nil {
		return nil
	}
	return endpoint.CheckValue("secret", secret)
}

// use returns the secret for a fetch. An error means that no fetch was started.
func (s *secretSource) use(ctx context.Context) (string, error) {
	if s == nil {
		return "", errors.New("wxtoken: this HTTPFetcher comes from no constructor; use NewFetcher or another one; nothing was sent")
	}
	secret, err := s.get(ctx)
	if err == nil && s.fixed == nil {
		sum := digest(secret)
		s.used.Store(&sum)
	}
	return secret, err
}

// get returns the current secret.
func (s *secretSource) get(ctx context.Context) (string, error) {
	if s.fixed != nil {
		return s.fixed(), nil
	}
	wait := 5 * time.Second
	if end, ok := ctx.Deadline(); ok {
		wait = time.Until(end) / 2 // a request sent too late may be served without its answer being read
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	secret, err := guard.Call(ctx, "the function of WithSecretFunc", func(ctx context.Context) (string, error) {
		secret, err := s.ask(ctx)
		if err != nil {
			err = endpoint.HideUnknown(err, endpoint.Mask(secret))
		}
		return secret, err
	})
	if err != nil {
		return "", fmt.Errorf("wxtoken: no secret from the function of WithSecretFunc; nothing was sent: %w", err)
	}
	return secret, endpoint.CheckValue("what the function of WithSecretFunc returned", secret)
}

// fingerprint identifies the secret of a fetch without showing it: 64 bits of a hash
// over salt, keyed by the secret that was used last. It is "" if there is no secret,
// or none has been used yet.
func (f *HTTPFetcher) fingerprint(salt string) string {
	switch s := f.secret; {
	case s == nil:
	case s.fixed != nil && s.fixed() != "":
		sum := digest(s.fixed())
		return tag(sum[:], salt)
	case s.used.Load() != nil:
		return tag(s.used.Load()[:], salt)
	}
	return ""
}

// currentFingerprint is the fingerprint that the next fetch would have: it calls
// the function of WithSecretFunc.
func (f *HTTPFetcher) currentFingerprint(ctx context.Context, salt string) (string, error) {
	if f.secret == nil || f.secret.fixed != nil {
		return f.fingerprint(salt), nil
	}
	secret, err := f.secret.get(ctx)
	if err != nil {
		return "", err
	}
	sum := digest(secret)
	return tag(sum[:], salt), nil
}

// digest is what is kept of a secret, to compute fingerprints from.
func digest(secret string) [sha256.Size]byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("wxtoken fingerprint"))
	return [sha256.Size]byte(mac.Sum(nil))
}

// tag is 64 bits of an HMAC of text, in hexadecimal.
func tag(key []byte, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}
