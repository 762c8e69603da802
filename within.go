package wxtoken

import (
	"context"
	"fmt"
)

// within runs call, and leaves it behind when ctx ends. A result that is there
// beats a ctx that has ended.
func within(ctx context.Context, call func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panicked with a %T", p) // not its value, which may hold anything
			}
		}()
		done <- call()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	default:
		return ctx.Err()
	}
}
