package main

import (
	"fmt"
	"io"
	"strings"
)

// A section is one chapter of the report.
type section struct {
	title   string
	command string
	parts   []string // paragraphs, tables and pictures in Markdown
	checks  []target
}

// A target is a figure that was promised, and what came of it.
type target struct {
	what, wanted, got string
	reached           bool
}

func (s *section) text(format string, args ...any) {
	s.parts = append(s.parts, fmt.Sprintf(format, args...))
}

func (s *section) table(head []string, rows [][]string) {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	rule := []string{"---"}
	for range head[1:] {
		rule = append(rule, "--:")
	}
	line(rule)
	for _, row := range rows {
		line(row)
	}
	s.parts = append(s.parts, strings.TrimSuffix(b.String(), "\n"))
}

func (s *section) expect(reached bool, what, wanted, got string) {
	s.checks = append(s.checks, target{what, wanted, got, reached})
}

func (s *section) write(w io.Writer) {
	fmt.Fprintf(w, "\n## %s\n\n`%s`\n", s.title, s.command)
	for _, part := range s.parts {
		fmt.Fprintf(w, "\n%s\n", part)
	}
}

// summary is the table of what was promised.
func summary(sections []*section) string {
	var all section
	var rows [][]string
	for _, s := range sections {
		for _, c := range s.checks {
			mark := "yes"
			if !c.reached {
				mark = "**no**"
			}
			rows = append(rows, []string{c.what, c.wanted, c.got, mark})
		}
	}
	all.table([]string{"", "to reach", "measured", "reached"}, rows)
	return all.parts[0]
}

// digits shows three digits of a value that may be large or small.
func digits(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return thousands(int(v + 0.5))
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plain is a name without its Markdown.
func plain(name string) string { return strings.ReplaceAll(name, "*", "") }

func names(counts []int) []string {
	var s []string
	for _, n := range counts {
		s = append(s, thousands(n))
	}
	return s
}

func yesNo(yes bool, ifYes, ifNot string) string {
	if yes {
		return ifYes
	}
	return ifNot
}
