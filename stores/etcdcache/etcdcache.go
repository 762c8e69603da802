// Package etcdcache keeps wxtoken's records in etcd, for applications that already
// use it. Each record has a lease of its own.
package etcdcache

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/store"
)

// A Cache is a [wxtoken.Cache] in etcd.
type Cache struct{ client *clientv3.Client }

// New returns a [Cache] that uses client. The caller keeps ownership of client and
// closes it. New panics if client is nil. The client's user needs permission to read
// and write keys that start with the prefix of WithKeyPrefix ("wxtoken:").
func New(client *clientv3.Client) *Cache {
	if client == nil {
		panic("wxtoken: etcdcache.New: the client is nil")
	}
	return &Cache{client}
}

// Get implements [wxtoken.Cache], by a linearizable read.
func (c *Cache) Get(ctx context.Context, key string) ([]byte, error) {
	got, err := c.client.Get(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case len(got.Kvs) == 0:
		return nil, wxtoken.ErrCacheMiss
	}
	return append([]byte{}, got.Kvs[0].Value...), nil // an empty value arrives as nil
}

// CompareAndSwap implements [wxtoken.Cache]. etcd counts whole seconds, at least about
// two, and expires a lease by its leader's clock; an election restarts all leases.
func (c *Cache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	is := clientv3.Compare(clientv3.Value(key), "=", string(old))
	if old == nil {
		is = clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	}
	lease, err := c.client.Grant(ctx, store.RoundUp(ttl, time.Second))
	if err != nil {
		return false, err
	}
	done, err := c.client.Txn(ctx).If(is).Then(clientv3.OpPut(key, string(new), clientv3.WithLease(lease.ID))).Commit()
	if err != nil {
		return false, err
	}
	if !done.Succeeded {
		_, _ = c.client.Revoke(ctx, lease.ID) // otherwise it expires by itself
	}
	return done.Succeeded, nil
}
