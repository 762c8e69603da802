// Package exampletest holds what the tests of the examples share.
package exampletest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/wxtoken/wxtoken/internal/servers"
)

// An Env is an environment that has only these variables.
type Env map[string]string

// Get works like os.Getenv.
func (e Env) Get(name string) string { return e[name] }

// Run returns what the example printed in this environment.
func (e Env) Run(t *testing.T, run func(context.Context, io.Writer, func(string) string) error) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), &out, e.Get)
	return out.String(), err
}

// FreeAddr returns a loopback address on which nothing listens.
func FreeAddr() string { return fmt.Sprint("127.0.0.1:", servers.SparePort()) }
