package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A sugared logger has these methods: zap's SugaredLogger does.
type sugared interface {
	Debugw(msg string, keysAndValues ...any)
	Infow(msg string, keysAndValues ...any)
	Warnw(msg string, keysAndValues ...any)
	Errorw(msg string, keysAndValues ...any)
}

// observeBy is an observer that logs by l. For zerolog, its last lines would be
//
//	log.WithLevel(level).Fields(fields).Msg(msg)
//
// and for logrus
//
//	log.WithFields(fields).Log(level, msg)
//
// with a level of theirs for each of slog's four.
func observeBy(l sugared) func(wxtoken.Event) {
	return func(e wxtoken.Event) {
		fields := []any{"key", e.Key, "count", e.Count}
		if e.Err != nil {
			fields = append(fields, "error", e.Err)
		}
		switch msg := "wxtoken: " + string(e.Kind); {
		case e.Level() >= slog.LevelError:
			l.Errorw(msg, fields...)
		case e.Level() >= slog.LevelWarn:
			l.Warnw(msg, fields...)
		case e.Level() >= slog.LevelInfo:
			l.Infow(msg, fields...)
		default:
			l.Debugw(msg, fields...)
		}
	}
}

// A printer is a sugared logger that prints.
type printer struct{ lines chan string }

func (p printer) print(level, msg string, kv []any) {
	p.lines <- fmt.Sprintln(append([]any{level, msg}, kv...)...)
}

func (p printer) Debugw(msg string, kv ...any) { p.print("DEBUG", msg, kv) }

func (p printer) Infow(msg string, kv ...any) { p.print("INFO", msg, kv) }

func (p printer) Warnw(msg string, kv ...any) { p.print("WARN", msg, kv) }

func (p printer) Errorw(msg string, kv ...any) { p.print("ERROR", msg, kv) }

// An unreachable cache is one whose server is down.
type unreachable struct{}

func (unreachable) Get(context.Context, string) ([]byte, error) {
	return nil, errors.New("connection refused")
}

func (unreachable) CompareAndSwap(context.Context, string, []byte, []byte, time.Duration) (bool, error) {
	return false, errors.New("connection refused")
}

// An application that logs by zap, zerolog, logrus or the like hands Events on,
// each at its level. WithLogger is for log/slog.
func ExampleEvent_Level() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))

	log := printer{make(chan string, 10)} // in an application, zap.L().Sugar()
	src := wxtoken.New(fetcher, nil, wxtoken.WithObserver(observeBy(log)))
	_, _ = src.Token(context.Background())
	fmt.Print(<-log.lines)

	src = wxtoken.New(fetcher, unreachable{}, wxtoken.WithObserver(observeBy(log)))
	_, _ = src.Token(context.Background())
	fmt.Print(<-log.lines)
	// Output:
	// INFO wxtoken: fetch key wxtoken:token:wx1 count 1
	// ERROR wxtoken: cache_error key wxtoken:token:wx1 count 1 error connection refused
}
