package docscheck

import (
	"bytes"
	"flag"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/api.txt")

// docs/api.txt lists what is exported. It changes only together with the section
// Unreleased of CHANGELOG.md, which must name each thing that changed.
func TestAPI(t *testing.T) {
	const golden = "docs/api.txt"
	var now []string
	for _, pkg := range []string{".", "adapter", "cachetest", "jssdk", "openplatform", "wxtest"} {
		now = append(now, exported(t, pkg)...)
	}
	text := strings.Join(now, "\n") + "\n"
	if !*update {
		assert.Equal(t, read(t, golden), text, "The exported names changed. Name each of them in CHANGELOG.md under Unreleased; then run: make api")
		return
	}
	before := strings.Split(strings.TrimSpace(read(t, golden)), "\n")
	log := unreleased(t)
	for _, line := range slices.Concat(now, before) {
		if slices.Contains(now, line) != slices.Contains(before, line) {
			names := strings.Join(namesIn(line, before), "|")
			assert.Regexp(t, `\b(`+names+`)\b`, log, "CHANGELOG.md does not say under Unreleased what became of:\n%s", line)
		}
	}
	if !t.Failed() {
		require.NoError(t, os.WriteFile(filepath.Join(root, golden), []byte(text), 0o644))
	}
}

// unreleased is the section Unreleased of CHANGELOG.md.
func unreleased(t *testing.T) string {
	return between(t, read(t, "CHANGELOG.md"), "\n## [Unreleased]\n", "\n## ")
}

var (
	method = regexp.MustCompile(`^\S+ func \(\S+ \*?(\w+)\) (\w+)`)
	member = regexp.MustCompile(`^\S+ (?:field|method) (\w+) (\w+)`)
	named  = regexp.MustCompile(`^\S+ (?:func|type|const|var) (\w+)`)
)

// namesIn returns what a line of docs/api.txt is about: the name, or also its type
// or package if they are new.
func namesIn(line string, before []string) (names []string) {
	pkg, _, _ := strings.Cut(line, " ")
	isNew := func(prefix string) bool {
		return !slices.ContainsFunc(before, func(l string) bool { return strings.HasPrefix(l, prefix) })
	}
	if isNew(pkg + " ") {
		names = append(names, pkg)
	}
	for _, r := range []*regexp.Regexp{method, member} {
		if m := r.FindStringSubmatch(line); m != nil {
			if isNew(pkg + " type " + m[1] + " ") {
				names = append(names, m[1])
			}
			return append(names, m[2])
		}
	}
	if m := named.FindStringSubmatch(line); m != nil {
		return append(names, m[1])
	}
	return append(names, regexp.QuoteMeta(line))
}

// exported lists the exported declarations of a package, one for each line,
// with types, and without comments, variables' values and what is not exported.
func exported(t *testing.T, dir string) (lines []string) {
	fset := token.NewFileSet()
	paths, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	require.NoError(t, err)
	var files []*ast.File
	for _, path := range paths {
		if !strings.HasSuffix(path, "_test.go") {
			file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			files = append(files, file)
		}
	}
	pkg, err := doc.NewFromFiles(fset, files, "github.com/wxtoken/wxtoken/"+dir)
	require.NoError(t, err)

	spaces := regexp.MustCompile(`\s+`)
	add := func(what string, node any) {
		var text bytes.Buffer
		require.NoError(t, printer.Fprint(&text, fset, node))
		lines = append(lines, pkg.Name+" "+what+spaces.ReplaceAllString(text.String(), " "))
	}
	values := func(kind string, groups []*doc.Value) {
		for _, group := range groups {
			for _, spec := range group.Decl.Specs {
				spec := spec.(*ast.ValueSpec)
				for i, name := range spec.Names {
					switch {
					case name.IsExported() && kind == "const" && i < len(spec.Values):
						add(kind+" "+name.Name+" = ", spec.Values[i])
					case name.IsExported():
						lines = append(lines, pkg.Name+" "+kind+" "+name.Name)
					}
				}
			}
		}
	}
	funcs := func(all []*doc.Func) {
		for _, f := range all {
			f.Decl.Doc, f.Decl.Body = nil, nil
			add("", f.Decl)
		}
	}
	values("const", pkg.Consts)
	values("var", pkg.Vars)
	funcs(pkg.Funcs)
	for _, typ := range pkg.Types {
		spec := typ.Decl.Specs[0].(*ast.TypeSpec)
		switch body := spec.Type.(type) {
		case *ast.StructType:
			lines = append(lines, pkg.Name+" type "+typ.Name+" struct")
			for _, field := range body.Fields.List {
				for _, name := range field.Names {
					if name.IsExported() {
						add("field "+typ.Name+" "+name.Name+" ", field.Type)
					}
				}
				if len(field.Names) == 0 {
					add("field "+typ.Name+" ", field.Type)
				}
			}
		case *ast.InterfaceType:
			lines = append(lines, pkg.Name+" type "+typ.Name+" interface")
			for _, m := range body.Methods.List {
				for _, name := range m.Names {
					add("method "+typ.Name+" "+name.Name+" ", m.Type)
				}
				if len(m.Names) == 0 {
					add("method "+typ.Name+" ", m.Type)
				}
			}
		default:
			add("type "+typ.Name+" ", body)
		}
		values("const", typ.Consts)
		values("var", typ.Vars)
		funcs(typ.Funcs)
		funcs(typ.Methods)
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}
