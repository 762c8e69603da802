// Package doctor diagnoses a token that processes share. It needs no secret and
// fetches nothing.
package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// A Level is how bad a finding is. It is also the program's exit status.
type Level int

// The levels.
const (
	OK Level = iota
	Warn
	Fail
)

// String is how the level is printed.
func (l Level) String() string { return [...]string{"ok", "warn", "FAIL"}[l] }

// MarshalText is String.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// A Finding is the result of one check. It never contains a token.
type Finding struct {
	Level Level  `json:"level"`
	Area  string `json:"area"` // store, record, platform, clock or scan
	Key   string `json:"key,omitempty"`
	Text  string `json:"text"`
	Do    string `json:"do,omitempty"` // what to do about it

	// weight is how much of the problem a finding explains: the heaviest finding of
	// the worst level is the verdict.
	weight int
}

// A Report holds all findings, in order.
type Report struct {
	Store    string    `json:"store"`
	Findings []Finding `json:"findings"`
}

// Weights of findings that explain others.
const (
	middle   = 1
	heavy    = 2
	decisive = 3 // nothing else matters, or could be found out
)

func (r *Report) add(f Finding) { r.Findings = append(r.Findings, f) }

func (r *Report) ok(area, format string, args ...any) {
	r.add(Finding{Area: area, Text: fmt.Sprintf(format, args...)})
}

// Verdict returns the most significant finding.
func (r *Report) Verdict() Finding {
	var worst Finding
	for i, f := range r.Findings {
		if i == 0 || f.Level > worst.Level || f.Level == worst.Level && f.weight > worst.weight {
			worst = f
		}
	}
	if worst.Level == OK {
		return Finding{Text: "no problem found"}
	}
	return worst
}

// Write prints the report for people: a line for each finding, what to do below
// it, and the verdict.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	key, said := "", map[string]bool{}
	for _, f := range r.Findings {
		if f.Key != "" && f.Key != key {
			key = f.Key
			fmt.Fprintf(&b, "      %s\n", key)
		}
		fmt.Fprintf(&b, "%-5s %-9s %s\n", f.Level, f.Area, f.Text)
		switch {
		case said[f.Do]:
			fmt.Fprintf(&b, "%15s → as above\n", "")
		case f.Do != "":
			fmt.Fprintf(&b, "%15s → %s\n", "", f.Do)
		}
		said[f.Do] = f.Do != ""
	}
	v := r.Verdict()
	fmt.Fprintf(&b, "\nverdict: %s: %s\n", v.Level, v.Text)
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON prints the report for machines, as one object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		Verdict Finding `json:"verdict"`
		*Report
	}{r.Verdict(), r})
}
