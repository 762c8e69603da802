// Package observe names what the metrics count, the same for every system of
// metrics.
package observe

import (
	"errors"

	"github.com/wxtoken/wxtoken"
)

// The results of a fetch, by who has to act.
const (
	OK      = "ok"
	Busy    = "busy"    // the platform: it was busy, or the limit per minute was reached
	Secret  = "secret"  // anyone who keeps the secret: it is wrong or frozen
	IP      = "ip"      // anyone who keeps the IP whitelist
	Quota   = "quota"   // anyone who finds what else fetches for this app
	Refused = "refused" // anyone who reads the errcode in the log
	Failed  = "failed"  // the network: there was no answer, or none to understand
)

// Results lists all results, so that each counter can begin with 0. One that
// begins with its first failure shows no increase to Prometheus.
func Results() []string { return []string{OK, Busy, Secret, IP, Quota, Refused, Failed} }

// Kinds lists the events that are counted, apart from fetches.
func Kinds() []wxtoken.EventKind {
	return []wxtoken.EventKind{
		wxtoken.EventAdopt, wxtoken.EventReject, wxtoken.EventIgnored, wxtoken.EventConflict, wxtoken.EventTakeover,
		wxtoken.EventLeaseLost, wxtoken.EventRestore, wxtoken.EventCacheError,
	}
}

// Result sorts the Err of an EventFetch.
func Result(err error) string {
	if err == nil {
		return OK
	}
	var refusal *wxtoken.APIError
	if !errors.As(err, &refusal) {
		return Failed
	}
	switch refusal.Code {
	case 40001, 40125, 40243:
		return Secret
	case 40164, 61004, 89501, 89503, 89506, 89507:
		return IP
	case 45009:
		return Quota
	}
	if refusal.Temporary() {
		return Busy
	}
	return Refused
}
