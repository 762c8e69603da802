package wxtoken

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"

	"github.com/wxtoken/wxtoken/internal/bridge"
	"github.com/wxtoken/wxtoken/internal/errcode"
	"github.com/wxtoken/wxtoken/internal/protocol"
)

// rulesOf returns the rules for the tokens of f, whose record is under key.
func rulesOf(f Fetcher, key string, o options) protocol.Rules {
	_, asks := f.(changeable)
	ru := protocol.Rules{
		Fetch: o.fetchTimeout, Local: o.localAge, Ahead: jitter(o.refreshAhead),
		Repeatable: isRepeatable(f), Changeable: asks,
	}
	ru.AtExpiry, ru.FullLife = repeats(f)
	secret, ok := f.(secretive)
	if ok {
		ru.Fingerprint = secret.fingerprint(key)
	}
	named, ok := f.(bridge.Member)
	switch {
	case ok:
		ru.Member = func() string { return string(named.Member()) }
	case ru.Fingerprint != "":
		ru.Member = func() string { return member(secret) }
	default: // there is no fixed secret
		ru.Member, ru.VagueMember = vagueMember, true
	}
	return ru
}

func isRepeatable(f Fetcher) bool {
	r, ok := f.(interface{ Repeatable() bool })
	return ok && r.Repeatable()
}

// repeats reports whether f's platform, asked again, returns the same token until it
// expires, and whether it then reports the full lifetime each time.
func repeats(f Fetcher) (untilExpiry, fullLife bool) {
	ticket := isTicket(f)
	return ticket || platformOf(f) == errcode.WeCom, ticket
}

// A secretive Fetcher asks with a secret. The fingerprint of the secret that was last
// used tells it from others and reveals nothing.
type secretive interface {
	fingerprint(salt string) string
	askedHosts() []string
}

// member names the processes that are started in the same way on the same machine, such
// as this one: one whose proxy is broken may live for a second, and be started again and
// again. What sets its way to the platform apart from another's is part of the name.
// Arguments, proxies and URLs can hold passwords, so the secret keys their hash.
func member(secret secretive) string {
	host, _ := os.Hostname()
	proxies := []string{os.Getenv("HTTPS_PROXY"), os.Getenv("https_proxy")}
	return secret.fingerprint(fmt.Sprintf("%q", slices.Concat([]string{"member", host}, proxies, secret.askedHosts(), os.Args)))
}

// vagueMember is member without a secret: the machine and the program are all that it
// tells.
func vagueMember() string {
	host, _ := os.Hostname()
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", append([]string{host}, os.Args[:min(len(os.Args), 1)]...)))
	return hex.EncodeToString(sum[:5])
}
