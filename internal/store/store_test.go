package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A failingCache answers every call with err.
type failingCache struct {
	err   error
	calls int
}

func (f *failingCache) Get(context.Context, string) ([]byte, error) {
	f.calls++
	return []byte("value"), f.err
}

func (f *failingCache) CompareAndSwap(context.Context, string, []byte, []byte, time.Duration) (bool, error) {
	f.calls++
	return true, f.err
}

// Bad arguments are reported in plain words, and the Cache is not called.
func TestBadArguments(t *testing.T) {
	c := new(failingCache)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx   context.Context
		key   string
		value []byte
		ttl   time.Duration
		want  string
	}{
		"no key":       {key: "", want: "wxtoken: cache key of 0 bytes: must be 1 to 250"},
		"long key":     {key: strings.Repeat("k", 251), want: "wxtoken: cache key of 251 bytes: must be 1 to 250"},
		"space in key": {key: "my app:token", want: `wxtoken: cache key "my app:token" has a space or control byte at offset 2`},
		"line feed":    {key: "token\n", want: `wxtoken: cache key "token\n" has a space or control byte at offset 5`},
		"DEL":          {key: "\x7f", want: `has a space or control byte at offset 0`},
		"ended ctx":    {ctx: ended, key: "key", want: "context canceled"},
		"no ttl":       {key: "key", ttl: -1, want: `wxtoken: cache ttl of -1ns for key "key": must be positive`},
		"large value":  {key: "key", value: make([]byte, MaxValue+1), want: `wxtoken: cache value of 32769 bytes for key "key": must be at most 32768`},
	} {
		t.Run(name, func(t *testing.T) {
			if test.ctx == nil {
				test.ctx = t.Context()
			}
			ttl := test.ttl + time.Second
			if test.ttl < 0 {
				ttl = test.ttl
			}
			_, err := CompareAndSwap(test.ctx, c, test.key, nil, test.value, ttl)
			assert.ErrorContains(t, err, test.want)
			if test.ttl == 0 && test.value == nil {
				_, err = Get(test.ctx, c, test.key)
				assert.ErrorContains(t, err, test.want)
			}
			assert.Zero(t, c.calls)
		})
	}
}

// A miss is ErrMiss, alone or wrapped, and never one of several errors.
func TestMiss(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		miss bool
	}{
		"alone":                 {ErrMiss, true},
		"wrapped":               {fmt.Errorf("metrics: %w", fmt.Errorf("tracing: %w", ErrMiss)), true},
		"one of two":            {errors.Join(ErrMiss, io.EOF), false},
		"one of one in a tree":  {fmt.Errorf("all sentinels: %w", errors.Join(ErrMiss)), false},
		"hidden among others":   {Hide(errors.Join(ErrMiss, io.EOF)), false},
		"another":               {errors.New("wxtoken: cache miss"), false},
		"nothing, with a value": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			value, err := Get(t.Context(), &failingCache{err: test.err}, "key")
			assert.Equal(t, test.miss, errors.Is(err, ErrMiss))
			assert.Equal(t, test.miss, err == ErrMiss)
			assert.Equal(t, test.err == nil, err == nil)
			assert.Equal(t, err == nil, value != nil, "an error comes without a value")
		})
	}
}

// redisError is an error reply as go-redis returns it.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

// What helps an operator is shown, and no more.
func TestHide(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 6379},
		Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, test := range []struct {
		err  error
		want string
	}{
		{refused, "dial tcp 10.0.0.1:6379: connect: connection refused"},
		{fmt.Errorf("failed to get conn x7y: %w", refused), "failed to get … dial tcp 10.0.0.1:6379: connect: connection refused"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "redis.internal", Server: "10.0.0.2:53"}},
			"dial tcp: lookup redis.internal on 10.0.0.2:53: no such host"},
		{&fs.PathError{Op: "open", Path: "/var/lib/wx token", Err: syscall.EROFS}, "open /var/lib/wx token: read-only file system"},
		{&fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}, "write /x: no space left on device (the disk is full)"},
		{context.DeadlineExceeded, "context deadline exceeded"},
		{io.EOF, "EOF (the other side closed the connection: a server that stopped, one that expects TLS, or a proxy that knows no HELLO, such as twemproxy, does so)"},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake", RecordHeader: [5]byte{1, 2, 3, 4, 5}},
			"tls: first record does not look like a TLS handshake (the client speaks TLS and the server does not)"},
		{errors.New("redis: connection pool timeout"),
			"redis: connection pool timeout (every connection of the client's pool is in use: raise PoolSize, or find what keeps them)"},
		{errors.New("memcache: server error"), "memcache: server error"},
		{errors.New("memcache: no servers configured or available"), "memcache: no servers configured or available"},
		{redisError("WRONGTYPE Operation against a key holding the wrong kind of value"),
			"WRONGTYPE Operation against a key holding the wrong kind of value"},
		{redisError("ERR max number of clients reached"), "ERR max number of clients reached"},
		{redisError("OOM command not allowed when used memory > 'maxmemory'."),
			"OOM command not allowed when used memory > 'maxmemory'. (the server's memory is full and its policy is noeviction: no token can be refreshed until there is room)"},
		{redisError("MOVED 3999 127.0.0.1:6381"), "MOVED 3999 … (the server is a node of a cluster: use redis.NewClusterClient)"},
		{redisError("READONLY You can't write against a read only replica."),
			"READONLY You can't write against a read only replica. (the server is a replica: use the master)"},
		{redisError(`ERR unknown command 'EVALSHA', with args beginning with: '4f' '1' 'wxtoken:k' '{"v":1,"token":"72_aB"}' `),
			"ERR unknown command 'EVALSHA', with args beginning with: … '1' … (the server, or a proxy before it, lacks a command that is needed: GET, SET and EVAL)"},
		{errors.New(`redis: can't parse "{\"v\":1,\"token\":\"72_aBcD"`), "redis: can't parse …"},
		{errors.New(`memcache: unexpected response line from "set": "SERVER_ERROR out of memory storing object\r\n"`),
			`memcache: unexpected response line from "set": … out of memory storing object " (the server's memory is full: start Memcached without -M)`},
		{errors.New("Error 1205 (HY000): Lock wait timeout exceeded; try restarting transaction"),
			"Error 1205 (HY000): Lock wait timeout exceeded; try restarting transaction"},
		{errors.New("got 1234567 bytes of 12345"), "got … bytes of 12345"},
		{errors.New("72_0123abcd"), "an error of type *errors.errorString, whose text is not shown"},
		{errors.New(strings.Repeat("timeout ", 1000)), strings.Repeat("timeout ", 37) + "time…"},
	} {
		assert.Equal(t, test.want, Hide(test.err).Error())
	}
	assert.NoError(t, Hide(nil))
	assert.NoError(t, Error("redis", "key", nil))
}

// However an error is wrapped and printed, nothing that the store sent shows;
// errors.As still finds the cause.
func TestHiddenErrors(t *testing.T) {
	const token = "72_q3Nf-xK0vZr8"
	inner := &net.OpError{Op: "read", Net: "tcp", Err: fmt.Errorf("got %s", token)}
	for _, err := range []error{
		Hide(inner),
		Error("redis", "key", inner),
		Explained("redis", "key", inner, "why"),
		Hide(fmt.Errorf("wrapper: %w", Error("redis", "key", inner))),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			assert.NotContains(t, fmt.Sprintf(verb, err), token[3:7])
			assert.NotContains(t, fmt.Sprintf(verb, fmt.Errorf("%w", err)), token[3:7])
			assert.NotContains(t, fmt.Sprintf(verb, struct{ Err error }{err}), token[3:7])
		}
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		assert.Same(t, inner, op)
		assert.ErrorIs(t, err, error(inner))
		assert.NoError(t, errors.Unwrap(err), "what prints a chain would print the text")
		assert.Equal(t, err, Hide(err), "once is enough")
	}
	assert.Equal(t, `wrapper: wxtoken: redis, key "k:v": read tcp: got …`,
		strings.Replace(Hide(fmt.Errorf("wrapper: %w", Error("redis", "k:v", inner))).Error(), "… wxtoken", "wrapper: wxtoken", 1))
	var timeout net.Error = &net.OpError{Err: os.ErrDeadlineExceeded}
	assert.True(t, Hide(timeout).(interface{ Timeout() bool }).Timeout())
	assert.False(t, Hide(io.EOF).(interface{ Timeout() bool }).Timeout())
}

// No four characters of a token show, wherever an error cuts it off.
func TestNoPartOfATokenShows(t *testing.T) {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-"
	rng := rand.New(rand.NewPCG(1, 2))
	shown := 0
	for range 20_000 {
		token := make([]byte, 150)
		for i := range token {
			token[i] = alphabet[rng.IntN(len(alphabet))]
		}
		from := rng.IntN(140)
		part := string(token[from : from+1+rng.IntN(len(token)-from-1)])
		text := Hide(fmt.Errorf("redis: unexpected reply: %s, want a number", part)).Error()
		if len(part) >= 4 && strings.Contains(text, part[:4]) {
			shown++
		}
	}
	assert.Zero(t, shown)
}

// Whatever the text, only words of the list show, or what a type guarantees.
func FuzzHide(f *testing.F) {
	f.Add("ERR unknown command 'EVALSHA'", "/path")
	f.Add("\xff\xfe … /path", "/path")
	f.Fuzz(func(t *testing.T, text, path string) {
		for word := range strings.FieldsSeq(filter(text, nil)) {
			assert.True(t, word == "…" || listed(word), "%q of %q", word, text)
		}
		err := Hide(fmt.Errorf("%s: %w", text, &fs.PathError{Op: "open", Path: path, Err: syscall.EIO}))
		assert.LessOrEqual(t, len(err.Error()), longest+300)
	})
}
