// Package guard calls foreign code: Call always returns, and Detach hides from that
// code what it should not see of a ctx.
package guard

import (
	"context"
	"fmt"
	"net/http/httptrace"
	"runtime"

	"github.com/wxtoken/wxtoken/internal/endpoint"
)

// Call calls fn, and returns when ctx ends, whatever fn does: a panic or Goexit
// becomes an error, and an fn that ignores ctx is left behind. An error comes without
// a value, whatever fn returned. If ctx has already ended, Call does not call fn, and
// returns an *endpoint.Unsent. The value of a panic may contain a secret, so only its
// type is shown, or the runtime's own message.
func Call[T any](ctx context.Context, name string, fn func(context.Context) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, &endpoint.Unsent{Err: fmt.Errorf("wxtoken: %s not called: %w", name, err)}
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var res result
		returned := false
		defer func() {
			switch p := recover().(type) {
			case nil:
				if !returned {
					res.err = fmt.Errorf("wxtoken: %s ended its goroutine", name)
				}
			case runtime.Error:
				res.err = fmt.Errorf("wxtoken: %s panicked: %w", name, p)
			default:
				res.err = fmt.Errorf("wxtoken: %s panicked with a %T", name, p)
			}
			done <- res
		}()
		if res.value, res.err = fn(ctx); res.err != nil {
			res.value = none
		}
		returned = true
	}()
	select {
	case res := <-done:
		return res.value, res.err
	case <-ctx.Done():
	}
	select {
	case res := <-done: // a result wins over a ctx that ended at the same time
		return res.value, res.err
	default:
		return none, fmt.Errorf("wxtoken: %s did not return in time: %w", name, ctx.Err())
	}
}

// Detach returns a ctx that does not end and keeps ctx's values except its httptrace
// hooks: those are for a request of the caller's own, and over HTTP/2 they would see
// a fetch's path, which contains the secret.
func Detach(ctx context.Context) context.Context { return untraced{context.WithoutCancel(ctx)} }

type untraced struct{ context.Context }

func (c untraced) Value(key any) any {
	value := c.Context.Value(key)
	if _, ok := value.(*httptrace.ClientTrace); ok {
		return nil
	}
	return value
}
