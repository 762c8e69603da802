package endpoint

import (
	"encoding/json"
	"errors"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Mask returns a function that replaces each of the secrets by ***, as it is and as
// it looks in a URL, in JSON, in HTML or quoted.
func Mask(secrets ...string) func(string) string {
	var forms []string
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		quoted := strconv.Quote(secret)
		inJSON, _ := json.Marshal(secret) // of a string: cannot fail
		forms = append(forms, secret, url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret),
			quoted[1:len(quoted)-1], string(inJSON[1:len(inJSON)-1]))
	}
	// The longest first: one secret may be the prefix of another.
	slices.SortStableFunc(forms, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, form := range forms {
		pairs = append(pairs, form, "***")
	}
	return strings.NewReplacer(pairs...).Replace
}

// hideRuns replaces each run of at least min characters that can be in a token by
// ***.
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

// HideError returns err without the URL that a *url.Error shows; if its text still
// shows a secret or, with runs, something that may be a token, only the text without
// them is kept.
func HideError(err error, hide func(string) string, runs bool) error {
	if runs { // a transport may quote a broken answer
		return hideError(err, func(s string) string { return hideRuns(hide(s), 32) })
	}
	return hideError(err, hide)
}

// HideUnknown is HideError for an error that may quote a secret that is not known
// here: it hides whatever is long enough to be one.
func HideUnknown(err error, hide func(string) string) error {
	return hideError(err, func(s string) string { return hideRuns(hide(s), 16) })
}

func hideError(err error, hide func(string) string) error {
	var withURL *url.Error
	if errors.As(err, &withURL) && withURL.Err != nil {
		err = withURL.Err
	}
	if text := hide(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}
