package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// listen opens "host:port" or "unix:/path".
func listen(addr string) (net.Listener, error) {
	var l net.Listener
	var err error
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		l, err = listenUnix(path)
	} else {
		l, err = net.Listen("tcp", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("wxtoken: cannot listen on %s: %w", addr, err)
	}
	return l, nil
}

// secure adds TLS to a listener.
func secure(l net.Listener, cert *certificate) net.Listener {
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: cert.get, NextProtos: []string{"h2", "http/1.1"},
	})
}

// listenUnix creates a socket for this user and group, replacing one that a killed
// server left behind.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, errors.New("the file exists and is not a socket")
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

// A certificate is reloaded when its files change, since certificates are renewed
// more often than servers are restarted.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	failures          atomic.Int64 // to read it again

	mu      sync.Mutex
	changed [2]time.Time     // of the files, when last read, successfully or not
	loaded  *tls.Certificate // nil: not yet
}

// openCertificate reads a certificate for the first time.
func openCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("wxtoken: tls: %w", err)
	}
	return c, nil
}

// get is a tls.Config's GetCertificate. While the new files do not match, the old
// certificate is used; that is logged once.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.read(); err != nil {
		c.failures.Add(1)
		c.log.Error("the certificate has changed and cannot be read; the previous one is used until it expires",
			"cert", c.certFile, "expires_at", c.loaded.Leaf.NotAfter, "error", err.Error())
	}
	return c.loaded, nil
}

// read reads the files if they have changed since the last time. c.mu is held, or c
// is new.
func (c *certificate) read() error {
	var now [2]time.Time
	for i, file := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(file); err == nil {
			now[i] = info.ModTime()
		}
	}
	if c.loaded != nil && now == c.changed {
		return nil
	}
	c.changed = now
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err == nil && cert.Leaf == nil {
		cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0])
	}
	if err == nil {
		c.loaded = &cert
	}
	return err
}

// notAfter returns when the certificate in use expires, after reading a new one if
// there is one.
func (c *certificate) notAfter() time.Time {
	cert, _ := c.get(nil)
	return cert.Leaf.NotAfter
}
