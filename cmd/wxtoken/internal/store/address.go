package store

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// An address is a store's URL in parts. Its hosts are a list, which package net/url
// does not support.
type address struct {
	kind  Kind
	tls   bool
	user  *url.Userinfo // nil: none
	hosts []string      // host:port
	path  string
	query url.Values
}

// schemes are the schemes of a URL, and their default ports.
var schemes = map[string]struct {
	kind Kind
	tls  bool
	port string
}{
	"redis":           {Redis, false, "6379"},
	"rediss":          {Redis, true, "6379"},
	"redis+sentinel":  {Sentinel, false, "26379"},
	"rediss+sentinel": {Sentinel, true, "26379"},
	"redis+cluster":   {Cluster, false, "6379"},
	"rediss+cluster":  {Cluster, true, "6379"},
	"memcached":       {Memcached, false, "11211"},
	"file":            {File, false, ""},
}

func parse(text string) (address, error) {
	scheme, rest, found := strings.Cut(text, "://")
	s, known := schemes[strings.ToLower(scheme)]
	if !found || !known {
		return address{}, errForm
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	a := address{kind: s.kind, tls: s.tls}
	hosts := authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		u, err := url.Parse("x://" + authority[:i] + "@x")
		if err != nil {
			return address{}, errForm
		}
		a.user, hosts = u.User, authority[i+1:]
	}
	u, err := url.Parse("x://x" + tail)
	if err != nil || u.Fragment != "" {
		return address{}, errForm
	}
	if a.query, err = url.ParseQuery(u.RawQuery); err != nil {
		return address{}, errForm
	}
	a.path = u.Path
	if s.kind == File {
		if hosts != "" || a.path == "" || a.path == "/" {
			return address{}, fmt.Errorf("wxtoken: a file store is named by an absolute path: file:///var/lib/wxtoken")
		}
		return a, nil
	}
	for i, host := range strings.Split(hosts, ",") {
		addr, ok := hostPort(host, s.port)
		if !ok && strings.Contains(tail, "@") {
			return address{}, errForm // a password with a / in it
		}
		if !ok {
			return address{}, fmt.Errorf("wxtoken: host %d of the store's URL is empty or not of the form host:port", i+1)
		}
		a.hosts = append(a.hosts, addr)
	}
	return a, nil
}

// hostPort completes host, host:port, [v6] or [v6]:port.
func hostPort(text, port string) (string, bool) {
	u, err := url.Parse("x://" + text)
	if err != nil || u.Host != text || u.Hostname() == "" || strings.ContainsAny(u.Hostname(), " \t%") {
		return "", false
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port), true
}

// name returns the URL for people: without user, password and options.
func (a address) name() string {
	scheme := string(a.kind)
	switch {
	case a.kind == Sentinel || a.kind == Cluster:
		scheme = "redis+" + scheme
	case a.kind == File:
		return "file://" + a.path
	}
	if a.tls {
		scheme = strings.Replace(scheme, "redis", "rediss", 1)
	}
	return scheme + "://" + strings.Join(a.hosts, ",") + a.path
}

// Loopback reports whether a host, with or without a port, is this machine.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}
