// Package exampletest holds what the tests of the examples share.
package exampletest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An Env stands for the environment, and has these variables alone.
type Env map[string]string

// Get is an os.Getenv.
func (e Env) Get(name string) string { return e[name] }

// Run gives what the example printed in this environment.
func (e Env) Run(t *testing.T, run func(context.Context, io.Writer, func(string) string) error) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), &out, e.Get)
	return out.String(), err
}

// FreeAddr is a loopback address where nobody listens.
func FreeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// WriteCertificate puts a new self-signed certificate for 127.0.0.1, and its
// key, into these files.
func WriteCertificate(t *testing.T, certFile, keyFile string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write := func(file, kind string, der []byte) {
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	write(keyFile, "PRIVATE KEY", private)
	write(certFile, "CERTIFICATE", der)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}
