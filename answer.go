package wxtoken

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	maxAnswer   = 64 << 10            // bytes of body that are read
	maxToken    = 4 << 10             // bytes; the platform says to keep room for 512
	maxLifetime = 30 * 24 * time.Hour // the platform says at most 2 h
	maxExcerpt  = 120                 // bytes of body that an error shows
	maxMessage  = 512                 // bytes of errmsg that are kept
)

// judgeAnswer gives the token in the field of a response, and its lifetime; an
// *APIError if the body, whatever the status, has an errcode; else what is wrong.
func judgeAnswer(resp *http.Response, body []byte, field string, hide func(string) string) (string, time.Duration, error) {
	if resp.StatusCode/100 == 3 {
		to := "nowhere"
		if u, err := resp.Location(); err == nil {
			to = hide(u.Host)
		}
		return "", 0, fmt.Errorf("HTTP %d, a redirect to %s that is not followed; check WithBaseURL and the network", resp.StatusCode, to)
	}
	if len(body) > maxAnswer {
		return "", 0, fmt.Errorf("HTTP %d with over %d bytes; the answer begins with %s", resp.StatusCode, maxAnswer, excerpt(body, hide))
	}
	token, lifetime, err := decodeAnswer(body, field, hide)
	var refused *APIError
	if resp.StatusCode != http.StatusOK && !errors.As(err, &refused) {
		return "", 0, fmt.Errorf("HTTP %d; the answer begins with %s", resp.StatusCode, excerpt(body, hide))
	}
	return token, lifetime, err
}

// decodeAnswer reads {"access_token":"...","expires_in":7200} or
// {"errcode":40013,"errmsg":"..."}. It insists on one whole JSON object, and
// lets a byte order mark and numbers in quotes pass.
func decodeAnswer(body []byte, field string, hide func(string) string) (token string, lifetime time.Duration, err error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(bytes.TrimPrefix(body, []byte("\ufeff")), &object); err != nil {
		return "", 0, fmt.Errorf("not a JSON object; the answer begins with %s: %w", excerpt(body, hide), err)
	}
	code, badCode := wholeNumber(object["errcode"])
	if badCode == nil && code != 0 {
		var message string
		_ = json.Unmarshal(object["errmsg"], &message) // what is not a string is no message
		message = strings.Join(strings.FieldsFunc(hide(message), unicode.IsControl), " ")
		return "", 0, &APIError{Code: int(code), Message: strings.ToValidUTF8(message[:min(len(message), maxMessage)], "")}
	}
	_ = json.Unmarshal(object[field], &token)
	seconds, badSeconds := wholeNumber(object["expires_in"])
	lifetime = time.Duration(seconds) * time.Second
	var wrong string
	switch {
	case badCode != nil:
		wrong = "errcode is not a whole number"
	case token == "":
		wrong = field + " is missing, empty or not a string"
	case len(token) > maxToken || !printable(token):
		wrong = fmt.Sprintf("%s is over %d bytes, or holds a space, a control byte or a byte that is not ASCII", field, maxToken)
	case badSeconds != nil || lifetime <= 0 || lifetime > maxLifetime:
		wrong = fmt.Sprintf("expires_in is not a whole number of seconds from 1 to %d", maxLifetime/time.Second)
	default:
		return token, lifetime, nil
	}
	if token != "" {
		object[field] = []byte(`"***"`)
	}
	shown, _ := json.Marshal(object) // was JSON: cannot fail
	return "", 0, fmt.Errorf("%s; the answer begins with %s", wrong, excerpt(shown, hide))
}

// wholeNumber reads 7200, 7200.0 or "7200"; what is missing or null is 0.
func wholeNumber(raw json.RawMessage) (n float64, err error) {
	var quoted string
	if json.Unmarshal(raw, &quoted) == nil && quoted != "" {
		raw = []byte(quoted)
	}
	if len(raw) > 0 {
		err = json.Unmarshal(raw, &n)
	}
	if n != math.Trunc(n) || math.Abs(n) > math.MaxInt32 {
		err = errors.New("not a whole number of 32 bits")
	}
	return n, err
}

// printable reports whether s is free of what has no place in a credential:
// spaces, control bytes and bytes that are not ASCII.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// newMask gives a function that puts *** for secret, plain, URL-escaped or quoted.
func newMask(secret string) func(string) string {
	if secret == "" {
		return func(s string) string { return s }
	}
	quoted := strconv.Quote(secret)
	return strings.NewReplacer(secret, "***", url.QueryEscape(secret), "***",
		url.PathEscape(secret), "***", quoted[1:len(quoted)-1], "***").Replace
}

// hideRuns puts *** for each run of at least min characters that tokens are made of.
func hideRuns(s string, min int) string {
	const token = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-"
	var b strings.Builder
	for start, i := 0, 0; i <= len(s); i++ {
		if i < len(s) && strings.IndexByte(token, s[i]) >= 0 {
			continue
		}
		if i-start >= min {
			b.WriteString("***")
		} else {
			b.WriteString(s[start:i])
		}
		if i < len(s) {
			b.WriteByte(s[i])
		}
		start = i + 1
	}
	return b.String()
}

// excerpt quotes the first bytes of an answer, without what may be a token.
func excerpt(body []byte, hide func(string) string) string {
	s := hideRuns(hide(string(body)), 16)
	return strconv.Quote(s[:min(len(s), maxExcerpt)])
}

// hideError gives err without the URL that an *url.Error shows; and if secrets
// still show, or with runs what may be a token, only its text without them.
func hideError(err error, hide func(string) string, runs bool) error {
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
