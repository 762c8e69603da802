package wxtoken

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// hosts returns the hosts that may be sent a token: Hosts or, if that is nil, base
// URLs. An error says which field is invalid.
func (t *Transport) hosts() ([]string, error) {
	for i := range 1 + len(t.Others) {
		if src, ok := t.source(i).(*Source); t.source(i) == nil && i > 0 || ok && src == nil {
			return nil, fmt.Errorf("wxtoken: request not sent: Transport.%s is nil: set it to the result of New", sourceName(i))
		}
	}
	for i, host := range t.Hosts {
		if !isHost(host) {
			return nil, fmt.Errorf(`wxtoken: request not sent: Transport.Hosts[%d] is not a "host" or "host:port", without scheme, user and path`, i)
		}
	}
	hosts := weChatHosts()
	if src, ok := t.Source.(interface{ apiHosts() ([]string, error) }); ok {
		var err error
		if hosts, err = src.apiHosts(); err != nil {
			return nil, fmt.Errorf("wxtoken: request not sent: %w", err)
		}
	}
	switch {
	case t.Hosts != nil:
		return t.Hosts, nil
	case hosts == nil:
		return nil, errors.New("wxtoken: request not sent: set Transport.Hosts: the Fetcher of its Source does not say which hosts take the token")
	}
	return hosts, nil
}

// source returns Source for 0, and the elements of Others after it.
func (t *Transport) source(i int) TokenSource {
	if i == 0 {
		return t.Source
	}
	return t.Others[i-1]
}

func sourceName(i int) string {
	if i == 0 {
		return "Source"
	}
	return fmt.Sprintf("Others[%d]", i-1)
}

// isHost reports whether s is a name or an IP address, with or without a port.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if strings.Contains(s, ":") {
		host, port, err := net.SplitHostPort(s)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 {
			return false
		}
		s = host
	}
	return s != "" && !strings.ContainsAny(s, "/\\@?#*[] \t\r\n")
}

// allows reports whether u's host is one of hosts.
func (t *Transport) allows(hosts []string, u *url.URL) bool {
	host, port := u.Hostname(), u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	case u.Scheme == "http":
		port = "80"
	}
	if t.Hosts == nil {
		return port == "443" && slices.Contains(hosts, u.Scheme+"://"+strings.ToLower(host))
	}
	return slices.ContainsFunc(hosts, func(h string) bool {
		return strings.EqualFold(h, host) || strings.EqualFold(h, net.JoinHostPort(host, port))
	})
}
