package endpoint

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
)

// A failure is the reason why one host could not be reached.
type failure struct {
	host string
	err  error
}

// unreached explains why none of the hosts could be reached. It reports what they
// have in common once, with what to do about it. The other hosts were not tried if
// ctx ended.
func unreached(path string, failures []failure, ended error) error {
	err := fmt.Errorf("wxtoken: %s: no connection and nothing sent", path)
	if kind, advice := inCommon(failures); kind != "" {
		var hosts []string
		for _, f := range failures {
			hosts = append(hosts, f.host)
		}
		err = &common{fmt.Sprintf("%v: %s: %s; %s", err, strings.Join(hosts, ", "), kind, advice), failures[0].err}
	} else {
		err = fmt.Errorf("%w; check DNS, proxy and firewall", err)
		for _, f := range failures {
			err = fmt.Errorf("%w; %s: %w", err, f.host, f.err)
		}
	}
	if ended != nil {
		err = fmt.Errorf("%w; %w", err, ended)
	}
	return err
}

// A common is a failure shared by several hosts, described for all of them.
type common struct {
	text string
	err  error // of the first
}

func (c *common) Error() string { return c.text }
func (c *common) Unwrap() error { return c.err }

// inCommon returns the cause of all failures, or "" if there are several causes or no
// failures.
func inCommon(failures []failure) (kind, advice string) {
	for i, f := range failures {
		k, a := cause(f.err)
		if i > 0 && k != kind {
			return "", ""
		}
		kind, advice = k, a
	}
	return kind, advice
}

// cause says what is wrong, in the same words for each host with the same problem,
// and what to do about it.
func cause(err error) (kind, advice string) {
	var unknown x509.UnknownAuthorityError
	var roots x509.SystemRootsError
	var invalid x509.CertificateInvalidError
	var other x509.HostnameError
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &unknown), errors.As(err, &roots):
		return "x509: certificate signed by unknown authority", "install ca-certificates (a container image may come without); behind a proxy that intercepts TLS, add its certificate"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "x509: certificate has expired or is not yet valid", "check the clock of this machine, and any proxy that intercepts TLS"
	case errors.As(err, &other):
		return "x509: certificate is for another host", "check DNS and any proxy that intercepts TLS"
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return err.Error(), "check the proxy"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host", "check DNS (in a container, its /etc/resolv.conf)"
	case errors.As(err, &dns):
		return "the DNS server gave no answer", "check DNS (in a container, its /etc/resolv.conf) and the network"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused", "check proxy and firewall"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "network is unreachable", "check the network of this machine"
	}
	return err.Error(), "check DNS, proxy and firewall"
}

// hostOf returns a base URL's host, for errors.
func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return "a host"
	}
	return u.Host
}
