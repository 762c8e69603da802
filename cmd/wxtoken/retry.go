package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/record"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
)

// errChanged says that a process changed the record at the same time.
var errChanged = errors.New("wxtoken retry: a process has just changed the record, or fetches now; see wxtoken doctor, and try again in 15 s")

func retryCommand(ctx context.Context, env environment, args []string) (int, error) {
	flags := flag.NewFlagSet("retry", flag.ContinueOnError)
	var t target
	t.addFlags(flags)
	if err := parse(env, flags, args); err != nil {
		return exitUsage, err
	}
	credential, err := t.one("retry")
	if err != nil {
		return exitUsage, err
	}
	s, keys, err := t.open(env)
	if err != nil {
		return exitUsage, err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r := record.Read(ctx, s, t.prefix+credential, keys)
	if err := retry(ctx, s, r, keys); err != nil {
		return exitFailed, err
	}
	fmt.Fprintf(env.stdout, "%s says that the platform may be asked again: the next call of a service that needs a token does so, within seconds\n", r.Key)
	return exitOK, nil
}

// retry ends the waits of all processes that read the record r.
func retry(ctx context.Context, s *store.Store, r record.Reading, keys [][32]byte) error {
	switch {
	case r.Err != nil:
		return r.Err
	case r.Raw == nil:
		return fmt.Errorf("wxtoken retry: there is no record under %s; wxtoken doctor says more", r.Key)
	case r.Record.Lease != "":
		return errChanged
	}
	now := time.Now()
	r.Record = r.Record.Retried(now)
	done, err := s.CompareAndSwap(ctx, r.Key, r.Raw, r.Encode(keys), r.Keep(now))
	if err == nil && !done {
		err = errChanged
	}
	return err
}
