// Package guard calls the code of others: it always comes back, and shows that
// code no more of a ctx than it should see.
package guard

import (
	"context"
	"fmt"
	"net/http/httptrace"
	"runtime"

	"github.com/wxtoken/wxtoken/internal/endpoint"
)

// Call calls fn, and returns when ctx ends, whatever fn does: a panic or Goexit
// is an error, and an fn that does not heed ctx is left behind. With an error
// goes no value, whatever fn returned. If ctx has ended, it does not call fn, and
// returns an *endpoint.Unsent. The value of a panic may hold a secret, so only
// its type is told, or what the runtime said.
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
		res := result{err: fmt.Errorf("wxtoken: %s ended its goroutine", name)}
		defer func() {
			switch p := recover().(type) {
			case nil:
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
	}()
	select {
	case res := <-done:
		return res.value, res.err
	case <-ctx.Done():
	}
	select {
	case res := <-done: // what is there beats a ctx that ended with it
		return res.value, res.err
	default:
		return none, fmt.Errorf("wxtoken: %s did not return in time: %w", name, ctx.Err())
	}
}

// Detach is a ctx that does not end and keeps ctx's values but for its httptrace
// hooks: they are for a request of the caller's own, and by HTTP/2 would see a
// fetch's path, which has the secret.
func Detach(ctx context.Context) context.Context { return untraced{context.WithoutCancel(ctx)} }

type untraced struct{ context.Context }

func (c untraced) Value(key any) any {
	value := c.Context.Value(key)
	if _, ok := value.(*httptrace.ClientTrace); ok {
		return nil
	}
	return value
}
