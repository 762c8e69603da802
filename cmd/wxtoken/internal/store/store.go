// Package store opens the cache that a URL names, for the commands of wxtoken.
package store

import (
	"errors"
	"net"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
)

// Forms lists the forms of a store's URL, for messages and help.
const Forms = "redis://user:password@host:port/database (rediss:// for TLS), " +
	"redis+sentinel://user:password@host:port,host:port/master/database, redis+cluster://user:password@host:port,host:port, " +
	"memcached://host:port,host:port or file:///directory"

// A Store is a cache and its client. Only the fields of its kind are set.
type Store struct {
	wxtoken.Cache

	Kind Kind
	Name string // its URL without user, password and options: for people

	Redis redis.UniversalClient // Redis, Sentinel and Cluster
	Addrs []string              // what the URL lists, in order; of Redis and Memcached

	Memcached *memcache.Client

	Dir string // File

	// Warnings are about settings that are allowed but unwise.
	Warnings []string

	close func() error
	pick  func(key string) (net.Addr, error) // Memcached
}

// A Kind is a kind of store.
type Kind string

// The kinds of stores.
const (
	Redis     Kind = "redis"
	Sentinel  Kind = "sentinel"
	Cluster   Kind = "cluster"
	Memcached Kind = "memcached"
	File      Kind = "file"
	Memory    Kind = "memory" // of this process only
)

// Close closes the connections. The Store is not usable afterwards.
func (s *Store) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

// InMemory is the store of a single process, which no URL names.
func InMemory() *Store {
	return &Store{Cache: wxtoken.NewMemoryCache(), Kind: Memory, Name: "memory"}
}

// Open opens the store that a URL names, without connecting to it. No error contains
// user or password.
func Open(url string) (*Store, error) {
	a, err := parse(url)
	if err != nil {
		return nil, err
	}
	switch a.kind {
	case Memcached:
		return openMemcached(a)
	case File:
		return openFile(a)
	}
	return openRedis(a)
}

var errForm = errors.New("wxtoken: the store's URL has an unknown form; use " + Forms +
	"; in a password, write %40 for @, %3A for :, %2F for /, %3F for ?, %23 for # and %25 for %")

func openFile(a address) (*Store, error) {
	if a.user != nil || len(a.query) > 0 {
		return nil, errors.New("wxtoken: a file store has a path and no options: file:///var/lib/wxtoken")
	}
	return &Store{Cache: wxtoken.NewFileCache(a.path), Kind: File, Name: a.name(), Dir: a.path}, nil
}
