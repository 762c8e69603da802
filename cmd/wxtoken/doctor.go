package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/doctor"
)

func doctorCommand(ctx context.Context, env environment, args []string) (int, error) {
	flags := flag.NewFlagSet("doctor", flag.ContinueOnError)
	var t target
	t.addFlags(flags)
	var d doctor.Doctor
	flags.StringVar(&d.BaseURL, "base-url", "", "`URL` to ask in place of the platform, such as a proxy")
	flags.BoolVar(&d.Scan, "scan", false, "look for other records of the same app, under other prefixes and in other databases")
	asJSON := flags.Bool("json", false, "print one JSON object, for machines")
	watch := flags.Bool("watch", false, "keep running, and print each change of the record, until Ctrl-C")
	if err := parse(env, flags, args); err != nil {
		return exitUsage, err
	}
	if len(t.credentials) == 0 && (*watch || !d.Scan) {
		return exitUsage, fmt.Errorf("wxtoken doctor: give it a -key, such as -key token:APPID, or -scan to look for all records")
	}
	s, keys, err := t.open(env)
	if err != nil {
		return exitUsage, err
	}
	defer s.Close()
	d.Store, d.Keys, d.Prefix = s, keys, t.prefix

	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	report := d.Examine(ctx, t.credentials)
	write := report.Write
	if *asJSON {
		write = report.WriteJSON
	}
	if err := write(env.stdout); err != nil {
		return exitFailed, fmt.Errorf("wxtoken doctor: %w", err)
	}
	if *watch {
		d.Watch(ctx, t.credentials, func(c doctor.Change) {
			if *asJSON {
				_ = c.WriteJSON(env.stdout)
				return
			}
			_ = c.Write(env.stdout)
		})
	}
	return int(report.Verdict().Level), nil
}
