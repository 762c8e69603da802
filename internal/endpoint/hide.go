package endpoint

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
)

// Mask gives a function that puts *** for each secret, plain, URL-escaped or quoted.
func Mask(secrets ...string) func(string) string {
	var pairs []string
	for _, secret := range secrets {
		if secret != "" {
			quoted := strconv.Quote(secret)
			pairs = append(pairs, secret, "***", url.QueryEscape(secret), "***",
				url.PathEscape(secret), "***", quoted[1:len(quoted)-1], "***")
		}
	}
	return strings.NewReplacer(pairs...).Replace
}

// hideRuns puts *** for each run of at least min characters that tokens are made of.
func hideRuns(s string, min int) string {
	const token = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-"
	var b strings.Builder
	for s != "" {
		rest := strings.TrimLeft(s, token)
		if run := s[:len(s)-len(rest)]; len(run) < min {
			b.WriteString(run)
		} else {
			b.WriteString("***")
		}
		next := strings.IndexAny(rest, token)
		if next < 0 {
			next = len(rest)
		}
		b.WriteString(rest[:next])
		s = rest[next:]
	}
	return b.String()
}

// HideError gives err without the URL that an *url.Error shows; and if secrets
// still show, or with runs what may be a token, only its text without them.
func HideError(err error, hide func(string) string, runs bool) error {
	var withURL *url.Error
	if errors.As(err, &withURL) && withURL.Err != nil {
		err = withURL.Err
	}
	text := hide(err.Error())
	if runs {
		text = hideRuns(text, 32) // a transport quotes from a broken answer
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}
