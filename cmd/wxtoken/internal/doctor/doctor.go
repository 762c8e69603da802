package doctor

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/record"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
)

// A Doctor examines one store.
type Doctor struct {
	Store   *store.Store
	Prefix  string     // of the keys
	Keys    [][32]byte // of encryption
	BaseURL string     // used in place of the platform; "": the platform
	HTTP    *http.Client
	Scan    bool // look for other records of the same credential

	sleep func(context.Context, time.Duration) // nil: wait; for tests
}

// call bounds one request to the store or the platform.
const call = 5 * time.Second

// Examine examines the store and the records of these credentials, which are named by
// their keys without prefix: "token:APPID".
func (d *Doctor) Examine(ctx context.Context, credentials []string) *Report {
	r := &Report{Store: d.Store.Name}
	if !d.examineStore(ctx, r, credentials) {
		return r
	}
	for _, c := range credentials {
		d.examineRecord(ctx, r, c)
	}
	if d.Scan {
		d.scan(ctx, r, credentials)
	}
	return r
}

// pause waits, or returns when ctx ends.
func (d *Doctor) pause(ctx context.Context, wait time.Duration) {
	if d.sleep != nil {
		d.sleep(ctx, wait)
		return
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

// read reads the record of a credential.
func (d *Doctor) read(ctx context.Context, credential string) record.Reading {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	return record.Read(ctx, d.Store, d.Prefix+credential, d.Keys)
}

// kindOf returns the kind of a credential, and the id that it belongs to.
func kindOf(credential string) (kind, id string) {
	kind, id, _ = strings.Cut(credential, ":")
	return kind, id
}

// CheckCredential reports what is wrong with the name of a credential.
func CheckCredential(credential string) error {
	kind, id := kindOf(credential)
	if kind == "" || id == "" || strings.ContainsAny(credential, " \t\n") {
		return fmt.Errorf("wxtoken: %q names no credential: it is a key without its prefix, such as token:APPID or stable:APPID", credential)
	}
	if strings.HasPrefix(credential, "wxtoken:") {
		return fmt.Errorf("wxtoken: leave out the prefix: -key %s; another prefix goes into -prefix", strings.TrimPrefix(credential, "wxtoken:"))
	}
	return nil
}

// short formats a duration for people.
func short(d time.Duration) string {
	switch d = d.Abs(); {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d >= time.Second:
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// clock reports how far another clock is from this machine's.
func clock(r *Report, whose string, off time.Duration) {
	f := Finding{Area: "clock", Text: fmt.Sprintf("%s agrees with this machine's, to %s", whose, short(off))}
	const do = "set the clocks by NTP: tokens seem to expire early or late, and rejections to be too young"
	switch {
	case off.Abs() > 2*time.Minute:
		f.Level, f.Do, f.weight = Fail, do, middle
	case off.Abs() > 10*time.Second:
		f.Level, f.Do = Warn, do
	}
	if f.Level != OK {
		ahead := "ahead of"
		if off < 0 {
			ahead = "behind"
		}
		f.Text = fmt.Sprintf("%s is %s %s this machine's", whose, short(off), ahead)
	}
	r.add(f)
}
