package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/record"
)

// oneRecord reads the record that flags name.
func oneRecord(ctx context.Context, env environment, t *target, command string) (record.Reading, error) {
	credential, err := t.one(command)
	if err != nil {
		return record.Reading{}, err
	}
	s, keys, err := t.open(env)
	if err != nil {
		return record.Reading{}, err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return record.Read(ctx, s, t.prefix+credential, keys), nil
}

func showCommand(ctx context.Context, env environment, args []string) (int, error) {
	flags := flag.NewFlagSet("show", flag.ContinueOnError)
	var t target
	t.addFlags(flags)
	token := flags.Bool("token", false, "show the token, which is a secret")
	if err := parse(env, flags, args); err != nil {
		return exitUsage, err
	}
	r, err := oneRecord(ctx, env, &t, "show")
	switch {
	case err != nil:
		return exitUsage, err
	case r.Err != nil:
		return exitFailed, r.Err
	case r.Raw == nil:
		return exitFailed, fmt.Errorf("wxtoken show: there is no record under %s; wxtoken doctor says more", r.Key)
	}
	text, err := show(r, *token, time.Now())
	if err != nil {
		return exitFailed, err
	}
	fmt.Fprint(env.stdout, text)
	return exitOK, nil
}

// show formats a record for people: JSON, with times in words beside it.
func show(r record.Reading, token bool, now time.Time) (string, error) {
	c := r.Record
	if !token && c.Token != "" {
		c.Token = fmt.Sprintf("(%d characters; -token shows them)", len(c.Token))
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return "", err
	}
	said := fmt.Sprintf("%s\n%s\n", r.Key, text)
	if r.Sealed {
		said += fmt.Sprintf("sealed by key %d of the file\n", r.Opened)
	}
	at := func(name string, t time.Time) string {
		d := t.Sub(now).Round(time.Second)
		when := fmt.Sprintf("in %s", d)
		if d < 0 {
			when = fmt.Sprintf("%s ago", -d)
		}
		return fmt.Sprintf("%s %s, %s\n", name, t.UTC().Format(time.RFC3339), when)
	}
	if c.Token != "" {
		said += at("issued  ", r.Issued()) + at("expires ", r.Expires())
	}
	if c.Cooldown != nil {
		said += at("cooldown", time.UnixMilli(c.Cooldown.Until))
	}
	return said, nil
}
