package storetest

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var rowsFile = flag.String("storetest.rows", "", "file to which each store that passes appends its row of docs/stores.md")

// A row is what a store did in a run.
type row struct {
	Store, Version string
	Suite          bool
	Histories      int
	LastCaller     time.Duration // 0: no herd
	Outage         string
}

// record appends the row to the file that make stores names.
func (r row) record(t *testing.T) {
	t.Helper()
	if *rowsFile == "" {
		return
	}
	f, err := os.OpenFile(*rowsFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(f).Encode(r); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// cells of the row, of which the first two are words in any language.
func (r row) cells() []string {
	herd := "–"
	if r.LastCaller > 0 {
		herd = fmt.Sprintf("1, %.1f ms", float64(r.LastCaller.Microseconds())/1000)
	}
	outage := r.Outage
	if outage == "" {
		outage = "–"
	}
	return []string{r.Store, r.Version, "✓", fmt.Sprint(r.Histories), herd, outage}
}

// table is the rows in Markdown, without a heading.
func table(rows []row) string {
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(r.cells(), " | "))
	}
	return b.String()
}
