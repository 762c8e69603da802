package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/serve"
)

// configVariable contains the JSON itself if no file is named.
const configVariable = "WXTOKEN_CONFIG"

func serveCommand(ctx context.Context, env environment, args []string) (int, error) {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	path := flags.String("config", "", "JSON `file` with the configuration; without it, "+configVariable+" holds the JSON itself")
	check := flags.Bool("check", false, "check the configuration and exit")
	demo := flags.Bool("demo", false, "serve an app of a fake platform, with nothing to set up")
	addr := flags.String("listen", "127.0.0.1:8901", "`address` of -demo; the next free one if it is taken")
	if err := parse(env, flags, args); err != nil {
		return exitUsage, err
	}
	if *demo {
		if *path != "" || *check {
			return exitUsage, errors.New("wxtoken serve: -demo has a configuration of its own: omit -config and -check")
		}
		return serveDemo(ctx, env, *addr)
	}
	read := func() (*config.Config, error) { return readConfig(*path, env.getenv) }
	c, err := read()
	if err != nil {
		return exitUsage, err
	}
	if *check {
		for _, w := range c.Warnings {
			fmt.Fprintln(env.stdout, "warn ", w)
		}
		fmt.Fprintf(env.stdout, "ok    %d apps, %d components and %d clients; nothing was connected to\n", len(c.Apps), len(c.Components), len(c.Clients))
		return exitOK, nil
	}
	s, err := serve.Open(c, slog.New(slog.NewJSONHandler(env.stderr, nil)))
	if err != nil {
		return exitFailed, err
	}
	return exitStatus(serveUntilSignal(ctx, env, s, read))
}

func exitStatus(err error) (int, error) {
	if err != nil {
		return exitFailed, err
	}
	return exitOK, nil
}

func readConfig(path string, getenv func(string) string) (*config.Config, error) {
	if path != "" {
		return config.ReadFile(path, getenv)
	}
	text := getenv(configVariable)
	if text == "" {
		return nil, fmt.Errorf("wxtoken serve: give it a configuration: -config FILE, or its JSON in %s; or try -demo", configVariable)
	}
	return config.Parse([]byte(text), getenv)
}

// serveUntilSignal serves until SIGTERM or SIGINT; a second one stops it at once. On
// SIGHUP it reloads the configuration.
func serveUntilSignal(ctx context.Context, env environment, s *serve.Server, read func() (*config.Config, error)) error {
	signal.Notify(env.signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(env.signals)
	running, stop := context.WithCancel(ctx)
	now, atOnce := context.WithCancel(context.Background())
	defer atOnce()
	done := make(chan error, 1)
	go func() { done <- s.Serve(running, now) }()
	for {
		select {
		case err := <-done:
			stop()
			return err
		case got := <-env.signals:
			switch {
			case got == syscall.SIGHUP && read != nil:
				s.Reload(read())
			case got == syscall.SIGHUP:
			case running.Err() != nil:
				atOnce()
			default:
				stop()
			}
		}
	}
}
