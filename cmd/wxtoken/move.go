package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/record"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
	"github.com/wxtoken/wxtoken/internal/protocol"
)

func moveCommand(ctx context.Context, env environment, args []string) (int, error) {
	flags := flag.NewFlagSet("move", flag.ContinueOnError)
	var t target
	from := flags.String("from", "", "`URL` of the store that has the record: "+store.Forms+"; or env:NAME or @FILE")
	to := flags.String("to", "", "`URL` of the store to copy it to")
	replace := flags.Bool("replace", false, "replace a record that is there already")
	t.addKeyFlags(flags)
	if err := parse(env, flags, args); err != nil {
		return exitUsage, err
	}
	credential, err := t.one("move")
	if err != nil {
		return exitUsage, err
	}
	if *from == *to && *from != "" {
		return exitUsage, errors.New("wxtoken move: -from and -to are the same store")
	}
	source, err := openStore(env, "-from", *from)
	if err != nil {
		return exitUsage, err
	}
	defer source.Close()
	target, err := openStore(env, "-to", *to)
	if err != nil {
		return exitUsage, err
	}
	defer target.Close()
	t.url = *from
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	said, err := move(ctx, source, target, t.prefix+credential, *replace)
	fmt.Fprint(env.stdout, said)
	return exitStatus(err)
}

// move copies a record, byte by byte, as soon as no fetch is in flight. The record in
// from stays: processes still use it.
func move(ctx context.Context, from, to *store.Store, key string, replace bool) (string, error) {
	r, err := settled(ctx, from, key)
	if err != nil {
		return "", err
	}
	old, err := to.Get(ctx, key)
	if there := err == nil; there && !replace {
		return "", fmt.Errorf("wxtoken move: %s has a record under %s already; -replace replaces it: do that only if no process uses it", to.Name, key)
	} else if !there {
		old = nil // if it is not absent, the swap fails
	}
	now := time.Now()
	stored, err := to.CompareAndSwap(ctx, key, old, r.Raw, r.Keep(now))
	if err != nil {
		return "", fmt.Errorf("wxtoken move: %w", err)
	}
	if !stored {
		return "", fmt.Errorf("wxtoken move: another process is writing to %s in %s; nothing was copied", key, to.Name)
	}
	said := fmt.Sprintf("copied %s from %s to %s\n", key, from.Name, to.Name)
	if r.Err == nil && r.Usable(now) {
		said += fmt.Sprintf("Deploy the processes with the new store now, and be done by %s: the next refresh is due then.\n",
			r.Expires().Add(-5*time.Minute).Format("15:04 MST"))
		if left := r.Expires().Sub(now); left < 30*time.Minute {
			said += "That is soon: better wait for the refresh, then move again with -replace.\n"
		}
	}
	return said, nil
}

// settled reads a record, and waits until it has no lease.
func settled(ctx context.Context, s *store.Store, key string) (record.Reading, error) {
	for {
		r := record.Read(ctx, s, key, nil)
		switch {
		case r.Raw == nil && r.Err != nil:
			return r, fmt.Errorf("wxtoken move: %w", r.Err)
		case r.Raw == nil:
			return r, fmt.Errorf("wxtoken move: %s has no record under %s", s.Name, key)
		case r.Err != nil && !errors.Is(r.Err, protocol.ErrNoKey):
			return r, fmt.Errorf("wxtoken move: nothing was copied: %w", r.Err)
		case r.Record.Lease == "":
			return r, nil
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return r, errors.New("wxtoken move: a process has been fetching for a minute; nothing was copied: wait until the record has no lease, as wxtoken doctor -watch shows")
		}
	}
}
