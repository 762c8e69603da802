package cachetest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

func TestRun(t *testing.T) {
	Run(t, func(*testing.T) wxtoken.Cache { return wxtoken.NewMemoryCache() })
}

// A slow cache keeps the contract, too.
func TestSlowCachePasses(t *testing.T) {
	slow := change{swap: func(c wxtoken.Cache, s swap) (bool, error) {
		time.Sleep(3 * time.Millisecond)
		return s.on(c)
	}}
	assert.Empty(t, failures(t, slow))
}

// TestBrokenCachesFail breaks a cache in one way at a time and expects the suite to
// notice: a check that cannot fail is worthless.
func TestBrokenCachesFail(t *testing.T) {
	tried := make(map[string]bool)
	for name, broken := range brokenCaches {
		t.Run(name, func(t *testing.T) {
			failed := failures(t, broken.change)
			require.Contains(t, failed, broken.check)
			assert.Contains(t, failed[broken.check], "the contract of wxtoken.Cache says")
		})
		tried[broken.check] = true
	}
	for _, c := range checks {
		assert.True(t, tried[c.name], "no cache is broken in the way that %q should find", c.name)
	}
}

// The sentences that failures quote are in the comment of wxtoken.Cache.
func TestContractIsQuoted(t *testing.T) {
	source, err := os.ReadFile("../cache.go")
	require.NoError(t, err)
	contract := strings.Join(strings.Fields(strings.ReplaceAll(string(source), "//", "")), " ")
	for _, c := range checks {
		assert.Contains(t, contract, c.contract)
	}
}

// failures runs every check on a changed cache, in virtual time, and returns the
// messages of those that failed.
func failures(t *testing.T, c change) map[string]string {
	failed := make(map[string]string)
	synctest.Test(t, func(t *testing.T) {
		for _, check := range checks {
			r := &recorder{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.Cache = wxtoken.NewMemoryCache()
				check.run(tester{TB: r, cache: c, contract: check.contract})
			}()
			<-done
			if r.Failed() {
				failed[check.name] = strings.Join(r.said, "\n")
			}
		}
	})
	return failed
}

// A recorder is a testing.TB that can fail without failing the real test.
type recorder struct {
	testing.TB
	mu   sync.Mutex
	said []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.said) > 0
}
