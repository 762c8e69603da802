package store

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
)

// openRedis opens one server, Sentinel or Cluster. The options in the URL are those
// of go-redis for one server, which do not include reading from replicas.
func openRedis(a address) (*Store, error) {
	s := &Store{Kind: a.kind, Name: a.name(), Addrs: a.hosts}
	if a.kind == Redis && len(a.hosts) > 1 {
		return nil, errors.New("wxtoken: redis:// names one server; for several, use redis+sentinel:// or redis+cluster://")
	}
	master, path := "", a.path
	if a.kind == Sentinel {
		master, path, _ = strings.Cut(strings.TrimPrefix(a.path, "/"), "/")
		if master == "" {
			return nil, errors.New("wxtoken: redis+sentinel:// needs the master's name: redis+sentinel://host:port/master/database")
		}
	}
	if a.kind == Cluster && strings.Trim(path, "/") != "" && strings.Trim(path, "/") != "0" {
		return nil, errors.New("wxtoken: Redis Cluster has database 0 only")
	}
	sentinelUser, sentinelPassword := a.query.Get("sentinel_username"), a.query.Get("sentinel_password")
	if a.kind == Sentinel {
		a.query.Del("sentinel_username")
		a.query.Del("sentinel_password")
	}
	one := url.URL{Scheme: "redis", User: a.user, Host: a.hosts[0], Path: "/" + strings.Trim(path, "/"), RawQuery: a.query.Encode()}
	if a.tls {
		one.Scheme = "rediss"
	}
	o, err := redis.ParseURL(one.String())
	if err != nil { // it is about an option or a database number, not about user and password
		return nil, fmt.Errorf("wxtoken: the store's URL: %w", err)
	}
	o.ContextTimeoutEnabled = true
	if o.TLSConfig != nil && o.TLSConfig.InsecureSkipVerify {
		s.Warnings = append(s.Warnings, "the store's URL has skip_verify: anyone between here and Redis can read and replace the tokens; "+
			"install the certificate's issuer on this machine instead")
	}
	if !a.tls && o.Password != "" && !Loopback(a.hosts[0]) {
		s.Warnings = append(s.Warnings, "the store's URL has a password and no TLS: anyone in between can read it; use rediss://, or a network that you trust")
	}
	all := universal(o, a.hosts)
	switch a.kind {
	case Redis:
		s.Redis = redis.NewClient(o)
	case Sentinel:
		all.MasterName, all.SentinelUsername, all.SentinelPassword = master, sentinelUser, sentinelPassword
		s.Redis = redis.NewFailoverClient(all.Failover())
	case Cluster:
		s.Redis = redis.NewClusterClient(all.Cluster())
	}
	s.Cache, s.close = wxtoken.NewRedisCache(s.Redis), s.Redis.Close
	return s, nil
}

// universal copies the options of one server for several.
func universal(o *redis.Options, hosts []string) *redis.UniversalOptions {
	secure := o.TLSConfig.Clone()
	if secure != nil {
		secure.ServerName = "" // each server's own name is checked
	}
	return &redis.UniversalOptions{
		Addrs: hosts, DB: o.DB, Username: o.Username, Password: o.Password,
		ClientName: o.ClientName, Protocol: o.Protocol, TLSConfig: secure, ContextTimeoutEnabled: true,
		MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		PoolFIFO: o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout,
		MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
	}
}
