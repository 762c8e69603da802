package wxtoken

import (
	"context"
	"errors"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/guard"
	"github.com/wxtoken/wxtoken/internal/protocol"
)

// fetch asks the platform, once.
func (f *flight) fetch(ctx context.Context, st protocol.Step) {
	s := f.src
	time.Sleep(jitter(st.Pause))
	sent := time.Now()
	ctx, cancel := context.WithTimeout(ctx, min(s.process.Fetch, st.Until.Sub(sent)))
	defer cancel()
	t, err := guard.Call(ctx, "Fetcher.Fetch", func(ctx context.Context) (Token, error) {
		t, err := s.fetcher.Fetch(ctx)
		return t, s.sound(err)
	})
	t, err = checked(t, sent, err)
	result := resultOf(t, sent, err)
	f.report(Event{Kind: EventFetch, Duration: time.Since(sent), ExpiresAt: t.ExpiresAt, Err: result.Err})
	f.did(func(now time.Time) string {
		if p, ok := s.fetcher.(secretive); ok {
			s.process.Fingerprint = p.fingerprint(s.key)
		}
		s.process.DidFetch(result, now)
		if err == nil { // it is published first: a caller who has it may end the process
			f.bePatient(now)
		}
		return ""
	})
}

// sound returns err with the platform's advice, if there is any. An error whose methods
// panic, such as a nil pointer, panics here, where a panic is one more failed fetch.
func (s *Source) sound(err error) error {
	if err == nil {
		return nil
	}
	var denial *APIError
	if errors.As(err, &denial) && denial == nil {
		return errors.New("wxtoken: the Fetcher returned a nil *APIError as its error; return a plain nil where there is none")
	}
	_ = err.Error()
	if denial, ok := err.(*APIError); ok {
		return advise(platformOf(s.fetcher), denial)
	}
	return err
}

// A changeable Fetcher asks for its secret before each fetch.
type changeable interface {
	currentFingerprint(ctx context.Context, salt string) (string, error)
}

// askSecret looks whether the secret has changed: that ends a cooldown about the old
// one.
func (f *flight) askSecret(ctx context.Context) {
	s := f.src
	p, ok := s.fetcher.(changeable)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.process.CacheCall())
	defer cancel()
	fingerprint, err := guard.Call(ctx, "the function of WithSecretFunc", func(ctx context.Context) (string, error) {
		return p.currentFingerprint(ctx, s.key)
	})
	if err == nil { // else the cooldown goes on
		f.did(func(time.Time) string { s.process.Fingerprint = fingerprint; return "" })
	}
}

// checked turns a token that no record can hold into an error, and cuts a
// lifetime of over 30 days.
func checked(t Token, sent time.Time, err error) (Token, error) {
	if err != nil {
		return Token{}, err
	}
	t.ExpiresAt = time.UnixMilli(t.ExpiresAt.UnixMilli()) // as the record will have it
	if t.ExpiresAt.Sub(sent) > protocol.MaxLifetime {
		t.ExpiresAt = sent.Add(protocol.MaxLifetime)
	}
	if !t.Valid() || !protocol.CanHold(t.Value) {
		return Token{}, errors.New("wxtoken: the Fetcher returned a token that is empty, expired or over 4 KiB, or has a space, control or non-ASCII byte; check its Value and ExpiresAt")
	}
	return t, nil
}

// resultOf returns what a fetch that was sent at sent means to the protocol.
func resultOf(t Token, sent time.Time, err error) protocol.Result {
	var denial *APIError
	var unsent *endpoint.Unsent
	switch {
	case err == nil:
		expiresAt := t.ExpiresAt.UnixMilli()
		return protocol.Result{Outcome: protocol.Issued,
			Token: protocol.Record{Token: t.Value, IssuedAt: min(sent.UnixMilli(), expiresAt), ExpiresAt: expiresAt}}
	case errors.As(err, &unsent):
		return protocol.Result{Outcome: protocol.Unsent, Err: err}
	case !errors.As(err, &denial):
		return protocol.Result{Outcome: protocol.Unknown, Err: err}
	}
	message := protocol.CleanMessage(denial.Message)
	if message != denial.Message {
		err = &APIError{denial.Code, message}
	}
	if denial.Code == 0 { // which denies nothing
		return protocol.Result{Outcome: protocol.Unknown, Err: err}
	}
	return protocol.Result{Outcome: protocol.Denied, Code: denial.Code, Message: message, Err: err}
}
