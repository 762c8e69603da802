package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"github.com/wxtoken/wxtoken"
)

// conns is the maximum number of connections to Memcached: gomemcache itself makes
// one for each concurrent call.
const conns = 64

func openMemcached(a address) (*Store, error) {
	if a.user != nil || (a.path != "" && a.path != "/") {
		return nil, errors.New("wxtoken: memcached:// has no user, password and path: memcached://host:port,host:port")
	}
	timeout := memcache.DefaultTimeout
	for name := range a.query {
		d, err := time.ParseDuration(a.query.Get(name))
		if name != "timeout" || err != nil || d <= 0 {
			return nil, fmt.Errorf("wxtoken: memcached:// has one option, timeout=500ms; not %.20q", name)
		}
		timeout = d
	}
	var servers memcache.ServerList
	if err := servers.SetServers(a.hosts...); err != nil {
		return nil, fmt.Errorf("wxtoken: the store's URL names a Memcached server that cannot be resolved: %w", err)
	}
	var addrs []string
	_ = servers.Each(func(a net.Addr) error { addrs = append(addrs, a.String()); return nil }) // fn never fails
	client := memcache.NewFromSelector(&servers)
	client.Timeout, client.MaxIdleConns = timeout, conns
	cache := &limited{wxtoken.NewMemcachedCache(client), make(chan struct{}, conns)}
	return &Store{
		Cache: cache, Kind: Memcached, Name: a.name(), Addrs: addrs,
		Memcached: client, close: client.Close, pick: servers.PickServer,
	}, nil
}

// ServerOf returns the address of the Memcached server that has a key.
func (s *Store) ServerOf(key string) string {
	addr, err := s.pick(key)
	if err != nil {
		return ""
	}
	return addr.String()
}

// limited lets few calls through at a time.
type limited struct {
	wxtoken.Cache
	slots chan struct{}
}

func (l *limited) Get(ctx context.Context, key string) ([]byte, error) {
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	defer l.leave()
	return l.Cache.Get(ctx, key)
}

func (l *limited) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if err := l.enter(ctx); err != nil {
		return false, err
	}
	defer l.leave()
	return l.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}

func (l *limited) enter(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wxtoken: memcached: %d calls are in flight: %w", conns, ctx.Err())
	}
}

func (l *limited) leave() { <-l.slots }
