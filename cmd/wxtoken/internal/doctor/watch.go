package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/record"
)

// every is how often a watched record is read.
const every = time.Second

// A Change is something that happened to a record.
type Change struct {
	At   time.Time `json:"at"`
	Key  string    `json:"key"`
	Text string    `json:"text"`
}

// Watch follows the records and reports each change, until ctx ends.
func (d *Doctor) Watch(ctx context.Context, credentials []string, tell func(Change)) {
	last := map[string]record.Reading{}
	for _, c := range credentials {
		last[c] = d.read(ctx, c)
	}
	for ctx.Err() == nil {
		d.pause(ctx, every)
		for _, c := range credentials {
			next := d.read(ctx, c)
			if ctx.Err() != nil {
				return
			}
			for _, text := range changes(last[c], next, time.Now()) {
				tell(Change{time.Now(), d.Prefix + c, text})
			}
			last[c] = next
		}
	}
}

// changes describes the differences.
func changes(a, b record.Reading, now time.Time) (all []string) {
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	switch {
	case a.State(now) == record.Unknown && b.State(now) == record.Unknown:
		return nil
	case b.State(now) == record.Unknown:
		say("the store does not answer: %v", b.Err)
		return all
	case a.State(now) == record.Unknown:
		say("the store answers again")
		return all
	case a.Raw != nil && b.Raw == nil:
		say("the record is gone: the store lost it, or it was deleted")
		return all
	case a.Raw == nil && b.Raw == nil:
		return nil
	case b.Err != nil:
		if a.Err == nil || a.Err.Error() != b.Err.Error() {
			say("%s", strings.TrimPrefix(b.Err.Error(), "wxtoken: "))
		}
		return all
	case a.Raw == nil:
		say("there is a record")
	}
	x, y := a.Record, b.Record
	if x.Lease != y.Lease && y.Lease != "" {
		process, _, _ := strings.Cut(y.Lease, ".")
		say("process %s fetches", process)
	}
	switch {
	case x.Token != y.Token && y.Token != "" && y.IssuedAt < x.IssuedAt:
		say("the store went back to a token of %s ago", short(now.Sub(b.Issued())))
	case x.Token != y.Token && y.Token != "":
		say("a new token, good for %s", short(b.Expires().Sub(now)))
	case max(x.ExpiresAt, y.ExpiresAt)-min(x.ExpiresAt, y.ExpiresAt) > 2000 && x.Token != "": // not the milliseconds of a repeat
		say("the same token, now good for %s", short(b.Expires().Sub(now)))
	}
	if x.Lease != "" && y.Lease == "" && x.Token == y.Token {
		say("a fetch ended without a new token")
	}
	if y.Rejected && !x.Rejected {
		say("an API rejected the token, which was %s old", short(now.Sub(b.Issued())))
	}
	if y.Early > x.Early && y.Early > 1 {
		say("that makes %d in a row", y.Early)
	}
	if c := y.Cooldown; c != nil && !c.Lifted && (x.Cooldown == nil || *c != *x.Cooldown) {
		say("a fetch failed: %s", strings.TrimPrefix(b.Cause().Error(), "wxtoken: "))
	}
	if y.Owed > x.Owed {
		say("it is not certain that the token is the latest: %d more fetches are owed", y.Owed)
	}
	if x.Owed > 0 && y.Owed == 0 {
		say("it is certain again that the token is the latest")
	}
	if a.State(now) != record.Expired && b.State(now) == record.Expired {
		say("the token has expired, and was not replaced")
	}
	return all
}

// Write prints a change for people.
func (c Change) Write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s  %s  %s\n", c.At.Format("15:04:05"), c.Key, c.Text)
	return err
}

// WriteJSON prints a change for machines, as a line.
func (c Change) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(c) }
