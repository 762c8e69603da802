// Wxtoken is a token server to deploy, and a set of commands to diagnose the tokens
// that processes share through a store:
//
//	wxtoken serve    keep the tokens of apps fresh, and hand them out over HTTP
//	wxtoken doctor   find out what is wrong with a token that processes share; needs no secret
//	wxtoken show     print the record of a token, without the token
//	wxtoken reject   mark the current token as rejected, so that it is replaced
//	wxtoken retry    end the wait after a failed fetch, once its cause is removed
//	wxtoken move     copy a record from one store to another
//	wxtoken version  print which build this is
//
// To try it, and to look at a token in Redis:
//
//	wxtoken serve -demo
//	wxtoken doctor -store redis://127.0.0.1:6379/0 -key token:wx1
//
// Its README describes all of this: https://github.com/wxtoken/wxtoken/tree/main/cmd/wxtoken
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/redis/go-redis/v9"
)

// An environment is what a command runs in, so that tests can replace it.
type environment struct {
	stdout, stderr io.Writer
	getenv         func(string) string
	signals        chan os.Signal // what serve waits for
}

// Exit statuses. doctor uses its verdict: 0 is ok, 1 warn, 2 fail.
const (
	exitOK     = 0
	exitFailed = 1 // the command failed
	exitUsage  = 2 // wrong usage
)

// A command is a subcommand. It returns the exit status, and an error for
// stderr.
type command struct {
	name, summary string
	run           func(ctx context.Context, env environment, args []string) (int, error)
}

var commands = []command{
	{"serve", "keep the tokens of apps fresh, and hand them out over HTTP", serveCommand},
	{"doctor", "find out what is wrong with a token that processes share; needs no secret", doctorCommand},
	{"show", "print the record of a token, without the token", showCommand},
	{"reject", "mark the current token as rejected, so that it is replaced", rejectCommand},
	{"retry", "end the wait after a failed fetch, once its cause is removed", retryCommand},
	{"move", "copy a record from one store to another", moveCommand},
	{"version", "print which build this is", versionCommand},
}

func main() {
	env := environment{os.Stdout, os.Stderr, os.Getenv, make(chan os.Signal, 8)}
	redis.SetLogger(redisLog{slog.New(slog.NewJSONHandler(os.Stderr, nil))})
	os.Exit(run(context.Background(), env, os.Args[1:]))
}

// A redisLog makes go-redis log like the rest of the program.
type redisLog struct{ *slog.Logger }

func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.WarnContext(ctx, fmt.Sprintf(format, args...))
}

// run runs a subcommand and returns the program's exit status.
func run(ctx context.Context, env environment, args []string) int {
	if len(args) > 0 {
		switch args[0] {
		case "help", "-h", "-help", "--help":
			fmt.Fprint(env.stdout, usage())
			return exitOK
		}
		for _, c := range commands {
			if c.name != args[0] {
				continue
			}
			status, err := c.run(ctx, env, args[1:])
			if errors.Is(err, flag.ErrHelp) {
				return exitOK
			}
			if err != nil {
				fmt.Fprintln(env.stderr, err)
			}
			return status
		}
		fmt.Fprintf(env.stderr, "wxtoken: unknown command %q\n\n", args[0])
	}
	fmt.Fprint(env.stderr, usage())
	return exitUsage
}

func usage() string {
	text := "usage: wxtoken COMMAND [flags]\n\n"
	for _, c := range commands {
		text += fmt.Sprintf("  %-8s %s\n", c.name, c.summary)
	}
	return text + "\nwxtoken COMMAND -h lists the flags of a command.\n"
}

// parse parses the flags of a command, which takes no other arguments.
func parse(env environment, flags *flag.FlagSet, args []string) error {
	flags.SetOutput(env.stderr)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("wxtoken %s: see wxtoken %s -h", flags.Name(), flags.Name()) // Parse has printed what is wrong
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("wxtoken %s: unexpected argument %q: see wxtoken %s -h", flags.Name(), flags.Arg(0), flags.Name())
	}
	return nil
}
