package main

import (
	"context"
	"errors"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"
)

// This is the usual old code, as it looks after step 1 of README.md: it reads before
// it fetches. Both versions have the same faults: two processes that find nothing
// both fetch, and one supersedes the token of the other; and the hour is a guess.

var errNothing = errors.New("nothing under the key")

// oldRedis reads the Redis string key, and fills it for an hour if it is empty.
func oldRedis(ctx context.Context, client *redis.Client, key string, fetch func() (string, error)) (string, error) {
	token, err := client.Get(ctx, key).Result()
	if !errors.Is(err, redis.Nil) {
		return token, err
	}
	if fetch == nil { // after step 3
		return "", errNothing
	}
	if token, err = fetch(); err != nil {
		return "", err
	}
	return token, client.Set(ctx, key, token, time.Hour).Err()
}

// oldMemcached does the same with a Memcached item.
func oldMemcached(client *memcache.Client, key string, fetch func() (string, error)) (string, error) {
	item, err := client.Get(key)
	if err == nil {
		return string(item.Value), nil
	}
	if !errors.Is(err, memcache.ErrCacheMiss) {
		return "", err
	}
	if fetch == nil {
		return "", errNothing
	}
	token, err := fetch()
	if err != nil {
		return "", err
	}
	return token, client.Set(&memcache.Item{Key: key, Value: []byte(token), Expiration: 3600})
}
