package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
)

// A Config is the JSON that configures the server. Every string may be
// "env:NAME", and is then the value of that environment variable.
type Config struct {
	// Listen is "host:port" or "unix:/path/to/socket".
	Listen string `json:"listen"`

	// TLS serves https, with the certificate and key in these PEM files. They
	// are read again when they change.
	TLS struct {
		Cert string `json:"cert"`
		Key  string `json:"key"`
	} `json:"tls"`

	// PlainHTTP allows http on an address that others can reach: for a server
	// behind a proxy that ends TLS.
	PlainHTTP bool `json:"plain_http"`

	// Redis or Memcached hold the tokens, so that several servers can run and a
	// restart costs no fetch. Without either they are in memory: then only one
	// server may run. Redis is a URL, as redis://user:password@host:port/db.
	Redis     string   `json:"redis"`
	Memcached []string `json:"memcached"`

	// DrainSeconds is how long the server goes on after a signal to stop, while
	// /readyz already says that it should get no more requests.
	DrainSeconds int `json:"drain_seconds"`

	Apps    []AppConfig    `json:"apps"`
	Clients []ClientConfig `json:"clients"`
}

// An AppConfig is an app whose token is served.
type AppConfig struct {
	AppID  string `json:"appid"`
	Secret string `json:"secret"`

	// Stable fetches from stable_token in place of token.
	Stable bool `json:"stable"`

	// BaseURL is asked in place of WeChat: a proxy, or a fake for tests.
	BaseURL string `json:"base_url"`
}

// A ClientConfig is a service that may ask for tokens.
type ClientConfig struct {
	Name   string   `json:"name"`   // for the log
	Secret string   `json:"secret"` // it sends "Authorization: Bearer SECRET"
	Apps   []string `json:"apps"`   // the appIDs that it may ask for
}

// shortest is the length of a client's secret below which it can be guessed.
const shortest = 16

// parseConfig reads, fills in and checks a Config. No error holds a secret.
func parseConfig(text []byte, getenv func(string) string) (*Config, error) {
	var c Config
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("tokenserver: the configuration is not the JSON that README.md describes: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("tokenserver: the configuration goes on after its JSON")
	}
	if err := c.fillIn(getenv); err != nil {
		return nil, err
	}
	return &c, c.check()
}

// fillIn replaces "env:NAME".
func (c *Config) fillIn(getenv func(string) string) error {
	all := []*string{&c.Listen, &c.TLS.Cert, &c.TLS.Key, &c.Redis}
	for i := range c.Memcached {
		all = append(all, &c.Memcached[i])
	}
	for i := range c.Apps {
		all = append(all, &c.Apps[i].AppID, &c.Apps[i].Secret, &c.Apps[i].BaseURL)
	}
	for i := range c.Clients {
		all = append(all, &c.Clients[i].Name, &c.Clients[i].Secret)
		for j := range c.Clients[i].Apps {
			all = append(all, &c.Clients[i].Apps[j])
		}
	}
	for _, s := range all {
		name, ok := strings.CutPrefix(*s, "env:")
		if !ok {
			continue
		}
		if *s = strings.TrimSpace(getenv(name)); *s == "" {
			return fmt.Errorf("tokenserver: the configuration names the environment variable %s, which is empty or not set", name)
		}
	}
	return nil
}

func (c *Config) check() error {
	if err := c.checkListen(); err != nil {
		return err
	}
	if c.Redis != "" && len(c.Memcached) > 0 {
		return errors.New("tokenserver: redis and memcached are both set: choose one")
	}
	if c.DrainSeconds < 0 {
		return errors.New("tokenserver: drain_seconds is negative")
	}
	known := map[string]bool{}
	for i, a := range c.Apps {
		if a.AppID == "" || a.Secret == "" {
			return fmt.Errorf("tokenserver: apps[%d] needs appid and secret", i)
		}
		if known[a.AppID] {
			return fmt.Errorf("tokenserver: apps[%d]: %s is there twice", i, a.AppID)
		}
		known[a.AppID] = true
	}
	if len(known) == 0 {
		return errors.New("tokenserver: apps is empty: there is no token to serve")
	}
	if len(c.Clients) == 0 {
		return errors.New("tokenserver: clients is empty: nobody could ask for a token")
	}
	for i, cl := range c.Clients {
		if len(cl.Secret) < shortest {
			return fmt.Errorf("tokenserver: clients[%d].secret has under %d characters: make one with: openssl rand -hex 32", i, shortest)
		}
		same := func(other ClientConfig) bool { return other.Secret == cl.Secret || other.Name == cl.Name }
		if cl.Name == "" || slices.ContainsFunc(c.Clients[:i], same) {
			return fmt.Errorf("tokenserver: clients[%d] needs a name and a secret of its own", i)
		}
		if len(cl.Apps) == 0 {
			return fmt.Errorf("tokenserver: clients[%d].apps is empty: list the appids that %s may ask for", i, cl.Name)
		}
		for _, appID := range cl.Apps {
			if !known[appID] {
				return fmt.Errorf("tokenserver: clients[%d].apps: %s is not among apps", i, appID)
			}
		}
	}
	return nil
}

func (c *Config) checkListen() error {
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		return errors.New("tokenserver: tls needs both cert and key")
	}
	if path, ok := strings.CutPrefix(c.Listen, "unix:"); ok {
		if path == "" {
			return errors.New("tokenserver: listen: unix: wants a path after it")
		}
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return errors.New(`tokenserver: listen must be "host:port" or "unix:/path/to/socket"`)
	}
	loopback := host == "localhost" || net.ParseIP(host).IsLoopback()
	if !loopback && c.TLS.Cert == "" && !c.PlainHTTP {
		return fmt.Errorf("tokenserver: %q can be reached by others, and they would read the tokens on their way: set tls, "+
			"or plain_http if a proxy in front of this server ends TLS", c.Listen)
	}
	return nil
}

// openCache connects to nothing yet: a store that is down shows in the log and
// in /readyz, and the server goes on when it is back.
func (c *Config) openCache() (cache wxtoken.Cache, closeCache func() error, err error) {
	switch {
	case c.Redis != "":
		opts, err := redis.ParseURL(c.Redis)
		if err != nil { // err can hold the password
			return nil, nil, errors.New("tokenserver: redis is not of the form redis://user:password@host:port/database; " +
				"in the password, write %40 for @, %3A for :, %2F for /, %3F for ? and %23 for #")
		}
		opts.ContextTimeoutEnabled = true
		client := redis.NewClient(opts)
		return wxtoken.NewRedisCache(client), client.Close, nil
	case len(c.Memcached) > 0:
		var servers memcache.ServerList
		if err := servers.SetServers(c.Memcached...); err != nil {
			return nil, nil, fmt.Errorf("tokenserver: memcached must be a list of host:port: %w", err)
		}
		client := memcache.NewFromSelector(&servers)
		client.MaxIdleConns = len(c.Apps) + 1
		client.Timeout = 500 * time.Millisecond
		return wxtoken.NewMemcachedCache(client), client.Close, nil
	}
	return wxtoken.NewMemoryCache(), func() error { return nil }, nil
}

func (a AppConfig) fetcher() (wxtoken.Fetcher, error) {
	var opts []wxtoken.FetcherOption
	if a.BaseURL != "" {
		u, err := url.Parse(a.BaseURL)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("tokenserver: base_url of app %s must be of the form https://host[:port]", a.AppID)
		}
		opts = append(opts, wxtoken.WithBaseURL(a.BaseURL))
	}
	if a.Stable {
		return wxtoken.NewStableFetcher(a.AppID, a.Secret, opts...), nil
	}
	return wxtoken.NewFetcher(a.AppID, a.Secret, opts...), nil
}
