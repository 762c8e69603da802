package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
)

// A naive Source is the obvious first version: look in the cache, otherwise fetch and
// set. With leased it also takes a lease before it fetches, and publishes only under
// it, but it does not handle requests whose outcome is unknown. The model must detect
// the faults of both.
type naive struct {
	f      wxtoken.Fetcher
	c      wxtoken.Cache
	id     uint64
	leased bool

	mu        sync.Mutex
	nonces    int
	seen      string // a lease of another
	seenSince time.Time
}

func newNaive(f wxtoken.Fetcher, c wxtoken.Cache, id uint64, _ ...wxtoken.Option) Source {
	return &naive{f: f, c: c, id: id}
}

func newLeased(f wxtoken.Fetcher, c wxtoken.Cache, id uint64, _ ...wxtoken.Option) Source {
	return &naive{f: f, c: c, id: id, leased: true}
}

// naiveRecord writes the fields that the model reads.
type naiveRecord struct {
	V         int    `json:"v"`
	Epoch     string `json:"epoch"`
	Seq       int    `json:"seq"`
	Token     string `json:"token,omitempty"`
	IssuedAt  int64  `json:"issued_at,omitempty"`
	ExpiresAt int64  `json:"expires_at,omitempty"`
	Lease     string `json:"lease,omitempty"`
	Owed      int    `json:"owed"`
}

func (r naiveRecord) fresh() bool {
	return r.Token != "" && time.Until(time.UnixMilli(r.ExpiresAt)) > 5*time.Minute
}

func (s *naive) read(ctx context.Context) (raw []byte, r naiveRecord, err error) {
	raw, err = s.c.Get(ctx, s.f.Key())
	if errors.Is(err, wxtoken.ErrCacheMiss) {
		return nil, naiveRecord{V: 1, Epoch: "e"}, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	return raw, r, err
}

func (s *naive) write(ctx context.Context, old []byte, r naiveRecord) ([]byte, bool, error) {
	b, _ := json.Marshal(r)
	ok, err := s.c.CompareAndSwap(ctx, s.f.Key(), old, b, 3*time.Hour)
	return b, ok, err
}

func (s *naive) Token(ctx context.Context) (wxtoken.Token, error) { return s.token(ctx, "") }

// Invalidate fetches again whatever the record holds.
func (s *naive) Invalidate(ctx context.Context, rejected string) error {
	_, err := s.token(ctx, rejected)
	return err
}

func (s *naive) token(ctx context.Context, rejected string) (wxtoken.Token, error) {
	for ctx.Err() == nil {
		raw, r, err := s.read(ctx)
		if err != nil {
			return wxtoken.Token{}, err
		}
		if r.fresh() && r.Token != rejected {
			return wxtoken.Token{Value: r.Token, ExpiresAt: time.UnixMilli(r.ExpiresAt)}, nil
		}
		if !s.leased {
			return s.fetchAndSet(ctx, raw, r)
		}
		if r.Lease != "" && !s.abandoned(r.Lease) {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		s.nonces++
		r.Lease = fmt.Sprintf("%x-%d", s.id, s.nonces)
		raw, ok, err := s.write(ctx, raw, r)
		if !ok || err != nil {
			continue
		}
		r.Lease = ""
		return s.fetchAndSet(ctx, raw, r)
	}
	return wxtoken.Token{}, ctx.Err()
}

func (s *naive) abandoned(lease string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen != lease {
		s.seen, s.seenSince = lease, time.Now()
	}
	return time.Since(s.seenSince) > 15*time.Second
}

func (s *naive) fetchAndSet(ctx context.Context, raw []byte, r naiveRecord) (wxtoken.Token, error) {
	fetchCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	t, err := s.f.Fetch(fetchCtx)
	if err == nil {
		r.Token, r.ExpiresAt, r.Seq = t.Value, t.ExpiresAt.UnixMilli(), r.Seq+1
	}
	for range 5 {
		_, ok, werr := s.write(ctx, raw, r)
		if ok || s.leased && werr == nil {
			break
		}
		if now, _, rerr := s.read(ctx); rerr == nil && !s.leased {
			raw = now // overwrite whatever is there
		}
	}
	return t, err
}
