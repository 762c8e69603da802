package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// listen opens what c.Listen names, with TLS if c has a certificate.
func listen(c *Config) (net.Listener, error) {
	var l net.Listener
	var err error
	if path, ok := strings.CutPrefix(c.Listen, "unix:"); ok {
		l, err = listenUnix(path)
	} else {
		l, err = net.Listen("tcp", c.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("tokenserver: cannot listen on %s: %w", c.Listen, err)
	}
	if c.TLS.Cert == "" {
		return l, nil
	}
	cert := &certificate{certFile: c.TLS.Cert, keyFile: c.TLS.Key}
	if _, err := cert.get(nil); err != nil {
		_ = l.Close()
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: cert.get, NextProtos: []string{"h2", "http/1.1"},
	}), nil
}

// listenUnix makes a socket for this user and group, in place of one that a
// server left behind when it was killed.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, errors.New("there is a file that is no socket")
		}
		if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
			_ = conn.Close()
			return nil, errors.New("another server listens there")
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// A certificate is read from its files again when they change, since
// certificates are renewed more often than servers are restarted.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	changed time.Time        // of certFile, when loaded
	loaded  *tls.Certificate // nil: not yet
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.certFile)
	if err == nil && (c.loaded == nil || !info.ModTime().Equal(c.changed)) {
		var cert tls.Certificate
		if cert, err = tls.LoadX509KeyPair(c.certFile, c.keyFile); err == nil {
			c.loaded, c.changed = &cert, info.ModTime()
		}
	}
	if c.loaded == nil {
		return nil, fmt.Errorf("tokenserver: tls: %w", err)
	}
	return c.loaded, nil // if the new files do not fit yet, the old ones still do
}
