package store

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
)

// Hide returns err with another text. What a store says can contain part of a record,
// token included: a server that lacks a command repeats its arguments, and a client
// whose replies are out of step quotes one record as the error of another. So the
// text keeps only words of a list (words.go), short numbers, and what types of the
// standard library say about addresses, paths and the system; a sequence of other
// words becomes "…". If it is known what the operator can do, the text says so.
//
// errors.Is and errors.As find what err wraps. Unwrap does not, since programs that
// report errors print every error of a chain.
func Hide(err error) error {
	if err == nil {
		return nil
	}
	if h, ok := err.(*hidden); ok {
		return h
	}
	return hide(err, describe(err))
}

// Error says which store and key an error of a store's client is about. It
// returns nil for nil.
func Error(store, key string, err error) error {
	if err == nil {
		return nil
	}
	return hide(err, fmt.Sprintf("wxtoken: %s, key %q: %v", store, key, Hide(err)))
}

// Explained is Error with more to say about the cause, which must not contain
// anything that the store sent.
func Explained(store, key string, err error, why string) error {
	if err == nil || why == "" {
		return Error(store, key, err)
	}
	return hide(err, fmt.Sprintf("%v (%s)", Error(store, key, err), why))
}

// Own returns an error with our own text, which is shown as it is.
func Own(text string) error { return hide(errors.New(text), text) }

// A hidden is an error whose text shows no more than it may. It keeps the error
// itself in functions, where nothing that prints fields can see it.
type hidden struct {
	text string
	is   func(target error) bool
	as   func(target any) bool
}

func hide(err error, text string) *hidden {
	return &hidden{text,
		func(target error) bool { return errors.Is(err, target) },
		func(target any) bool { return errors.As(err, target) }}
}

func (h *hidden) Error() string              { return h.text }
func (h *hidden) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(h.text)) }
func (h *hidden) As(target any) bool         { return h.as(target) }

// Is reports no miss: a real miss was recognized before.
func (h *hidden) Is(target error) bool { return target != ErrMiss && h.is(target) }

// Timeout is for callers that expect a net.Error.
func (h *hidden) Timeout() bool {
	var t interface{ Timeout() bool }
	return h.as(&t) && t.Timeout()
}

// longest is how many bytes of an error's text are kept.
const longest = 300

// describe returns what may be shown of err.
func describe(err error) string {
	text := err.Error()
	known := knownTexts(err)
	slices.SortFunc(known, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	shown := filter(text, known)
	if strings.Trim(shown, "… ") == "" {
		shown = fmt.Sprintf("an error of type %T, whose text is not shown", err)
	}
	if len(shown) > longest {
		shown = strings.ToValidUTF8(shown[:longest], "") + "…"
	}
	if why := hint(err, text); why != "" {
		shown += " (" + why + ")"
	}
	return shown
}

// knownTexts returns the parts of err's text that its types guarantee.
func knownTexts(err error) (known []string) {
	add := func(s ...string) {
		for _, s := range s {
			if s != "" {
				known = append(known, s)
			}
		}
	}
	switch e := err.(type) {
	case nil:
		return nil
	case *hidden, syscall.Errno, *net.DNSError, tls.RecordHeaderError, tls.AlertError, *tls.CertificateVerificationError,
		x509.UnknownAuthorityError, x509.HostnameError, x509.CertificateInvalidError, x509.SystemRootsError:
		add(err.Error())
		return known
	case *net.OpError:
		for _, addr := range []net.Addr{e.Source, e.Addr} {
			if addr != nil {
				add(addr.String())
			}
		}
	case *fs.PathError:
		add(e.Path)
	case *os.LinkError:
		add(e.Old, e.New)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		known = append(known, knownTexts(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			known = append(known, knownTexts(inner)...)
		}
	}
	return known
}

// filter keeps the known parts of text, the longest of which come first, and the
// words that are on the list.
func filter(text string, known []string) string {
	for i, k := range known {
		if before, after, found := strings.Cut(text, k); found {
			return strings.TrimSpace(filter(before, known[i:]) + " " + k + joined(filter(after, known[i:])))
		}
	}
	var kept []string
	for _, word := range strings.Fields(unquoted.Replace(text)) {
		switch {
		case listed(word):
			kept = append(kept, word)
		case len(kept) == 0 || kept[len(kept)-1] != "…":
			kept = append(kept, "…")
		}
	}
	return strings.Join(kept, " ")
}

// joined adds a space before what does not begin with punctuation.
func joined(s string) string {
	if s == "" || strings.ContainsAny(s[:1], ":;,.)") {
		return s
	}
	return " " + s
}

// A line feed that a client quoted is not part of a word.
var unquoted = strings.NewReplacer(`\r`, " ", `\n`, " ", `\"`, `"`)
