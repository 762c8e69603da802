package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/record"
	"github.com/wxtoken/wxtoken/internal/protocol"
)

// An examination is that of one credential.
type examination struct {
	*Doctor
	r          *Report
	credential string
	kind, id   string
}

func (p *examination) add(f Finding) {
	f.Key = p.Prefix + p.credential
	p.r.add(f)
}

func (p *examination) ok(area, format string, args ...any) {
	p.add(Finding{Area: area, Text: fmt.Sprintf(format, args...)})
}

// supersedes reports whether each fetch of the credential supersedes the previous
// token.
func supersedes(kind string) bool {
	return kind == "token" || kind == "qq" || kind == "component" || kind == "authorizer"
}

// examineRecord examines one record, and asks the platform about its token.
func (d *Doctor) examineRecord(ctx context.Context, r *Report, credential string) {
	p := &examination{Doctor: d, r: r, credential: credential}
	p.kind, p.id = kindOf(credential)
	reading := d.read(ctx, credential)
	now := time.Now()
	switch reading.State(now) {
	case record.Unknown:
		p.add(Finding{Level: Fail, Area: "record", weight: decisive, Text: fmt.Sprintf("the store did not answer: %v", reading.Err), Do: "look at the store first"})
		return
	case record.Missing:
		p.missing(ctx)
		return
	case record.Unreadable:
		p.unreadable(reading)
		return
	}
	if reading.Sealed {
		p.sealed(reading)
	}
	reading = p.lease(ctx, reading)
	p.token(reading)
	p.owed(reading)
	p.cooldown(reading)
	if left := d.left(ctx, reading.Key); left < 0 {
		p.add(Finding{Level: Warn, Area: "record", Text: "the record never expires in the store", Do: "it was copied by hand: that does no harm while the app is in use; wxtoken move sets an expiry"})
	}
	if reading.Usable(time.Now()) {
		p.askPlatform(ctx, reading)
	}
}

// missing says why there may be no record, and which others there are.
func (p *examination) missing(ctx context.Context) {
	f := Finding{Level: Fail, Area: "record", weight: heavy, Text: "there is no record: no process has stored a token here"}
	var others []string
	prefixes := []string{p.Prefix}
	if p.Prefix != "wxtoken:" {
		prefixes = append(prefixes, "wxtoken:")
	}
	if p.Prefix != "" {
		prefixes = append(prefixes, "")
	}
	for _, prefix := range prefixes {
		for _, kind := range []string{"token", "stable", "qq"} {
			key := prefix + kind + ":" + p.id
			if key == p.Prefix+p.credential {
				continue
			}
			if one := record.Read(ctx, p.Store, key, p.Keys); one.Raw != nil {
				others = append(others, key)
			}
		}
	}
	f.Do = "compare this store with that of the services: address, database number and key prefix; does one use a memory cache? " +
		"-scan finds records elsewhere in this store. If all agree, read the log of a service: " +
		"it says why it cannot fetch (IP whitelist, network, secret)"
	if len(others) > 0 {
		f.Text += "; but there is " + strings.Join(others, " and ")
		f.Do = "the services use another constructor or key prefix than you asked for: look at that record, and let all use the same"
	}
	p.add(f)
}

func (p *examination) unreadable(r record.Reading) {
	f := Finding{Level: Fail, Area: "record", weight: heavy, Text: strings.TrimPrefix(r.Err.Error(), "wxtoken: ")}
	switch {
	case errors.Is(r.Err, protocol.ErrNoKey) && len(p.Keys) == 0:
		f.Text = "the record is sealed, and no key was given"
		f.Do = "-key-file FILE with the key of WithEncryption, one on each line. A service without the key cannot use this record: " +
			"it uses its copy until that expires, and says so in its log"
	case errors.Is(r.Err, protocol.ErrNoKey):
		f.Text = fmt.Sprintf("the record is sealed, and none of the %d keys opens it", len(p.Keys))
		f.Do = "find the service that has another key: it sealed the record, and the others cannot read it. " +
			"To rotate keys, give all the new one last, then first"
	case errors.Is(r.Err, protocol.ErrNewer):
		f.Do = "upgrade this program; and services that say the same"
	case errors.Is(r.Err, protocol.ErrCorrupt):
		f.Do = "something else writes to this key: find it. The next process that reads it overwrites it"
	}
	p.add(f)
}

func (p *examination) sealed(r record.Reading) {
	if r.Opened > 1 {
		p.add(Finding{Level: Warn, Area: "record", Text: fmt.Sprintf("it is sealed by key %d of the file, not by the first", r.Opened),
			Do: "while keys are rotated that is right until the next refresh; later, some service still seals with the old key"})
		return
	}
	p.ok("record", "it is sealed, and the key opens it")
}

// lease watches a lease for a while: most end within a second.
func (p *examination) lease(ctx context.Context, r record.Reading) record.Reading {
	lease, seen := r.Record.Lease, time.Now()
	if lease == "" {
		return r
	}
	last := r
	for range 6 {
		p.pause(ctx, 500*time.Millisecond)
		next := p.read(ctx, p.credential)
		if next.Err != nil || next.Raw == nil {
			break
		}
		if last = next; last.Record.Lease != lease {
			p.ok("record", "a process was fetching; it is done")
			return last
		}
	}
	length := time.Duration(last.Record.LeaseFor) * time.Millisecond
	if length == 0 { // version 0.1 wrote it
		length = 15 * time.Second
	}
	p.add(Finding{Level: Warn, Area: "record", Text: fmt.Sprintf("a process has been fetching for more than %s, under a lease of %s", short(time.Since(seen)), short(length)),
		Do: "if it died, another takes over when the lease has expired or, while the token is usable, a minute later. If this persists: " +
			"processes die or are paused while they fetch, or the platform is slow"})
	return last
}

// token reports how old the token is and how long it is valid.
func (p *examination) token(r record.Reading) {
	now, t := time.Now(), r.Record
	if t.Token == "" {
		p.add(Finding{Level: Fail, Area: "record", weight: middle, Text: "the record has no token yet" + p.notShared(r), Do: p.whereToLook(r)})
		return
	}
	age, left := now.Sub(r.Issued()), r.Expires().Sub(now)
	text := fmt.Sprintf("a token of %s ago, good for %s more", short(age), short(left))
	switch {
	case age < -10*time.Second:
		p.add(Finding{Level: Warn, Area: "clock", weight: middle, Text: fmt.Sprintf("the token was issued %s in the future: the clock of the process that fetched it, or this machine's, is wrong", short(age)),
			Do: "set the clocks by NTP"})
	case left <= 0:
		p.add(Finding{Level: Fail, Area: "record", weight: middle, Text: fmt.Sprintf("the token expired %s ago and was not replaced", short(left)),
			Do: p.whereToLook(r) + "; an app without any calls looks like this, too"})
	case t.Rejected:
		p.add(Finding{Level: Warn, Area: "record", weight: middle, Text: text + ", which an API rejected: the next call fetches another",
			Do: "if it stays so, no service asks for the token, or none can fetch: see below"})
	case left < 3*time.Minute && left+age > 20*time.Minute:
		p.add(Finding{Level: Warn, Area: "record", weight: middle, Text: text + ": it should have been replaced by now",
			Do: p.whereToLook(r)})
	default:
		p.ok("record", "%s", text)
	}
}

// notShared explains that the record has no failure either, if it has no token.
func (p *examination) notShared(r record.Reading) string {
	switch {
	case failed(r):
		return ""
	case retried(r):
		return ", and wxtoken retry has ended the wait after a failure: no service has fetched since"
	}
	return ". No failure is noted that concerns all processes: each that tried has failed for a reason of its own, such as its IP address"
}

// failed reports whether the last fetch failed, as far as the record tells.
func failed(r record.Reading) bool { c := r.Record.Cooldown; return c != nil && !c.Lifted }

// retried reports whether wxtoken retry has ended the wait after a failure, and no process
// has fetched since, or met a failure that is not its own affair.
func retried(r record.Reading) bool {
	c := r.Record.Cooldown
	return c != nil && c.Lifted && c.Member == ""
}

// whereToLook says where to look when a token is not replaced.
func (p *examination) whereToLook(r record.Reading) string {
	if failed(r) {
		return "see the last failure below"
	}
	return "read the log of a service: its IP address is not on the whitelist (40164, with the address to add), it has no connection to the platform, or none is running"
}

// owed reports owed fetches and early rejections.
func (p *examination) owed(r record.Reading) {
	if n := r.Record.Owed; n > 0 {
		p.add(Finding{Level: Warn, Area: "record", Text: fmt.Sprintf("it is not certain that this is the platform's latest token: %d more fetches are owed", n),
			Do: "nothing: a process fetches once more in about two minutes. If this persists, processes die or time out while they fetch"})
	}
	switch n := r.Record.Early; {
	case n == 1:
		p.ok("record", "the last token was rejected before it expired; that happens now and then")
	case n > 1:
		p.add(Finding{Level: Warn, Area: "record", weight: heavy, Text: fmt.Sprintf("%d tokens in a row were rejected before they expired: %s", n, p.likelyCause()), Do: p.howToFindIt()})
	}
}

// likelyCause is what probably makes the platform reject tokens early.
func (p *examination) likelyCause() string {
	if supersedes(p.kind) {
		return "another system fetches for this app"
	}
	return "something invalidates its tokens: a forced refresh, or a reset secret"
}

// howToFindIt says how to find the likely cause.
func (p *examination) howToFindIt() string {
	if !supersedes(p.kind) {
		return "look for a system that sends force_refresh, and ask who has reset the secret"
	}
	do := "look for an old service, a nightly job, a test environment, a service with a memory cache or another database number (-scan): " +
		"let it use this store or the token server"
	if p.kind == "token" {
		do += "; or move to NewStableFetcher, whose tokens they do not touch"
	}
	return do
}

// cooldown reports why the platform is not asked, or was not.
func (p *examination) cooldown(r record.Reading) {
	c, now := r.Record.Cooldown, time.Now()
	if c == nil || retried(r) {
		return
	}
	cause := strings.TrimPrefix(r.Cause().Error(), "wxtoken: ")
	f := Finding{Level: Warn, Area: "record", weight: middle, Text: "the last fetch failed: " + cause}
	if c.Lifted {
		who := "one service"
		if n := 1 + len(strings.Fields(c.Before)); n > 1 {
			who = fmt.Sprintf("each of %d services", n)
		}
		f.Text = "others fetch, but " + who + ", whose processes live for minutes at most, cannot; the last failure: " + cause
	} else if !r.Usable(now) {
		f.Level, f.weight = Fail, heavy
	}
	if r.Cooling(now) {
		who := "no process"
		if c.Member != "" { // the others wait a second
			who = "no process younger than 5 min"
		}
		f.Text += fmt.Sprintf("; %s asks again for %s", who, short(time.UnixMilli(c.Until).Sub(now)))
		if c.Scope != "" {
			f.Text += ", but one with another secret may"
		}
	}
	f.Do = "docs/troubleshooting.md has the steps for each errcode, and wxtoken retry then ends the wait; restart only programs that read the secret once"
	if c.By != "" {
		f.Do += "; the process that failed is " + c.By
	}
	if c.Code == 0 && c.Member != "" {
		f.Do += "; if its log says nothing of that, it died while it fetched: find out what ends such processes"
	}
	p.add(f)
}
