package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
)

// A Mirror stores the plain token where old code looks for it, while services move to
// wxtoken one by one. Copy it, and delete it when the last service has moved.
//
//	mirror := NewMirror(PutRedis(rdb, "access_token"), logger)
//	src := wxtoken.New(fetcher, cache, wxtoken.WithObserver(mirror.Observe))
//	go mirror.Run(ctx, src)
//
// Any number of processes may mirror the same token. One may lag behind the others by
// WithLocalAge, 45 s, and write the previous token back in that time: that token is
// valid for 5 more minutes.
type Mirror struct {
	put  func(ctx context.Context, token string, ttl time.Duration) error
	log  *slog.Logger
	kick chan struct{}
}

// every is how often the token is written even if it has not changed: that restores
// it after an eviction, a flush, a failed write, or a write by an old program.
const every = 15 * time.Second

// NewMirror returns a Mirror that writes with put, which must return when its ctx
// ends.
func NewMirror(put func(ctx context.Context, token string, ttl time.Duration) error, log *slog.Logger) *Mirror {
	return &Mirror{put: put, log: log, kick: make(chan struct{}, 1)}
}

// Observe makes Run write at once when there is a new token.
func (m *Mirror) Observe(e wxtoken.Event) {
	if e.Kind == wxtoken.EventFetch && e.Err == nil || e.Kind == wxtoken.EventAdopt {
		select {
		case m.kick <- struct{}{}:
		default: // Run has not handled the last one yet
		}
	}
}

// Run mirrors the token of src until ctx ends. It asks for the token regularly, which
// keeps it fresh even if nothing else in this process needs it.
func (m *Mirror) Run(ctx context.Context, src *wxtoken.Source) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		m.mirror(ctx, src)
		select {
		case <-m.kick:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *Mirror) mirror(running context.Context, src *wxtoken.Source) {
	ctx, cancel := context.WithTimeout(running, every)
	defer cancel()
	token, err := src.Token(ctx)
	if err == nil {
		// Old code trusts what it finds, so the item must expire with the token. To
		// both stores 0 means no expiry.
		if left := time.Until(token.ExpiresAt).Truncate(time.Second); left > 0 {
			err = m.put(ctx, token.Value, left)
		}
	}
	if err != nil && running.Err() == nil {
		m.log.Error("mirroring the token for old code failed; retrying", "error", err.Error())
	}
}

// PutRedis writes a plain string, as SET key token EX seconds does.
func PutRedis(client redis.Cmdable, key string) func(context.Context, string, time.Duration) error {
	return func(ctx context.Context, token string, ttl time.Duration) error {
		return client.Set(ctx, key, token, ttl).Err()
	}
}

// PutMemcached writes a plain item. The client takes no ctx; its Timeout bounds the
// call.
func PutMemcached(client *memcache.Client, key string) func(context.Context, string, time.Duration) error {
	return func(_ context.Context, token string, ttl time.Duration) error {
		return client.Set(&memcache.Item{Key: key, Value: []byte(token), Expiration: int32(ttl / time.Second)})
	}
}
