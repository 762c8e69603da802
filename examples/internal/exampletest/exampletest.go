// Package exampletest holds what the tests of the examples share.
package exampletest

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"

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
