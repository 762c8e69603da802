// Package observe names what the metrics count, in the same way for every metrics
// system.
package observe

import (
	"errors"

	"github.com/wxtoken/wxtoken"
)

// The results of a fetch, by who has to act.
const (
	OK     = "ok"
	Busy   = "busy"   // the platform: it was busy, or the limit per minute was reached
	Secret = "secret" // the owner of the secret: it is wrong or frozen
	IP     = "ip"     // the owner of the IP whitelist
	Quota  = "quota"  // the app's team: something else fetches for the app
	Denied = "denied" // the app's team: the log has the errcode
	Failed = "failed" // the network: there was no answer, or no usable one
)

// Results lists all results, so that each counter can start at 0. A counter that
// starts with its first failure shows no increase to Prometheus.
func Results() []string { return []string{OK, Busy, Secret, IP, Quota, Denied, Failed} }

// Kinds lists the events that are counted besides fetches.
func Kinds() []wxtoken.EventKind {
	return []wxtoken.EventKind{
		wxtoken.EventAdopt, wxtoken.EventReject, wxtoken.EventIgnored, wxtoken.EventConflict, wxtoken.EventTakeover,
		wxtoken.EventLeaseLost, wxtoken.EventRestore, wxtoken.EventCacheError,
	}
}

// Result classifies the Err of an EventFetch.
func Result(err error) string {
	if err == nil {
		return OK
	}
	var denial *wxtoken.APIError
	if !errors.As(err, &denial) {
		return Failed
	}
	switch denial.Code {
	case 40001, 40125, 40243:
		return Secret
	case 40164, 61004, 89501, 89503, 89506, 89507:
		return IP
	case 45009:
		return Quota
	}
	if denial.Temporary() {
		return Busy
	}
	return Denied
}
