package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/record"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
	"github.com/wxtoken/wxtoken/internal/endpoint"
)

// forcedApart is the minimum interval between two forced refreshes.
const forcedApart = 31 * time.Second

// abortFor is how long the user has to stop a forced refresh.
const abortFor = 5 * time.Second

func rejectCommand(ctx context.Context, env environment, args []string) (int, error) {
	flags := flag.NewFlagSet("reject", flag.ContinueOnError)
	var t target
	t.addFlags(flags)
	f := forcing{env: env, apart: forcedApart, abortFor: abortFor}
	force := flags.Bool("force", false, "for stable:APPID: make the platform invalidate the token at once, by two forced refreshes")
	secretName := flags.String("secret-env", "WECHAT_SECRET", "`name` of the environment variable with the AppSecret, for -force")
	flags.StringVar(&f.base, "base-url", "https://api.weixin.qq.com", "`URL` to ask in place of the platform, for -force")
	if err := parse(env, flags, args); err != nil {
		return exitUsage, err
	}
	credential, err := t.one("reject")
	if err != nil {
		return exitUsage, err
	}
	kind, appID, _ := strings.Cut(credential, ":")
	if *force {
		f.appID, f.secret = appID, strings.TrimSpace(env.getenv(*secretName))
		switch {
		case kind != "stable":
			return exitUsage, errors.New("wxtoken reject: -force is for stable:APPID; any other token is invalid 5 minutes after the next fetch, which reject without -force causes")
		case f.secret == "":
			return exitUsage, fmt.Errorf("wxtoken reject: -force needs the AppSecret in the environment variable %s", *secretName)
		}
		if err := endpoint.CheckHosts([]string{f.base}); err != nil {
			return exitUsage, errors.New("wxtoken reject: -base-url is not of the form https://host[:port]")
		}
	}
	s, keys, err := t.open(env)
	if err != nil {
		return exitUsage, err
	}
	defer s.Close()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := record.Read(ctx, s, t.prefix+credential, keys)
	switch {
	case r.Err != nil:
		return exitFailed, r.Err
	case r.Record.Token == "":
		return exitFailed, fmt.Errorf("wxtoken reject: there is no token under %s; wxtoken doctor says more", r.Key)
	}
	if *force {
		if err := f.run(ctx); err != nil {
			return exitFailed, err
		}
	}
	if err := reject(ctx, s, t.prefix, credential, keys, r.Record.Token); err != nil {
		return exitFailed, err
	}
	fmt.Fprintf(env.stdout, "%s is marked as rejected: the next call of a service fetches another, within 45 s if there are calls\n", r.Key)
	if kind == "stable" && !*force {
		fmt.Fprintln(env.stdout, "Note: stable_token returns the same token again while it is valid. Only -force ends it.")
	}
	return exitOK, nil
}

// reject does what a service does when an API rejects its token. It fetches nothing.
func reject(ctx context.Context, s *store.Store, prefix, credential string, keys [][32]byte, token string) error {
	nothing := wxtoken.FetcherFunc(credential, func(context.Context) (wxtoken.Token, error) {
		return wxtoken.Token{}, errors.New("wxtoken reject: fetches nothing")
	})
	opts := []wxtoken.Option{wxtoken.WithKeyPrefix(prefix)}
	if len(keys) > 0 {
		opts = append(opts, wxtoken.WithEncryption(keys...), wxtoken.WithPlainRecords())
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	src := wxtoken.New(nothing, s, opts...)
	err := src.Invalidate(ctx, token)
	return errors.Join(err, src.Wait(ctx))
}

// A forcing invalidates a token of stable_token on the platform: the second of two
// forced refreshes makes the token before the first invalid at once.
type forcing struct {
	env                 environment
	base, appID, secret string
	apart, abortFor     time.Duration
}

func (f forcing) run(ctx context.Context) error {
	fmt.Fprintf(f.env.stderr, "This invalidates the token of %s everywhere; calls in flight with it fail. "+
		"It takes %s, and uses 2 of the 20 forced refreshes a day that the platform allows. Ctrl-C within %s stops it.\n", f.appID, f.apart, f.abortFor)
	if err := wait(ctx, f.abortFor); err != nil {
		return err
	}
	for i := range 2 {
		if i > 0 {
			fmt.Fprintf(f.env.stderr, "1 of 2 done; the next in %s\n", f.apart)
			if err := wait(ctx, f.apart); err != nil {
				return err
			}
		}
		if err := f.refresh(ctx); err != nil {
			return fmt.Errorf("wxtoken reject: forced refresh %d of 2: %w", i+1, err)
		}
	}
	fmt.Fprintln(f.env.stderr, "2 of 2 done")
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return errors.New("wxtoken reject: stopped")
	}
}

// refresh sends one forced refresh. The secret is in the body, which no error shows.
func (f forcing) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := json.Marshal(map[string]any{"grant_type": "client_credential", "appid": f.appID, "secret": f.secret, "force_refresh": true})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(f.base, "/")+"/cgi-bin/stable_token", bytes.NewReader(body))
	if err != nil {
		return errors.New("-base-url cannot be read")
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) {
			err = withURL.Err
		}
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Errcode     int    `json:"errcode"`
		Errmsg      string `json:"errmsg"`
		AccessToken string `json:"access_token"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer)
	switch {
	case err == nil && answer.Errcode != 0:
		return &wxtoken.APIError{Code: answer.Errcode, Message: strings.ReplaceAll(answer.Errmsg, f.secret, "***")}
	case err != nil || answer.AccessToken == "":
		return fmt.Errorf("HTTP %d and no token in the answer", resp.StatusCode)
	}
	return nil
}
