package main

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// version is the version of the release in the proxy.
const version = "v0.1.0"

// private are the modules that are not released: tests and measurements.
var private = []string{"adapter/sdktest", "bench", "internal/storetest/newest"}

// publish puts every module that is to be released into the proxy: the files in git,
// with uncommitted changes.
func (c *checker) publish() error {
	out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	files := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(out)), "\n"), func(f string) bool {
		info, err := os.Lstat(f)
		return err != nil || !info.Mode().IsRegular() // deleted, or a link
	})
	var modules []string
	for _, f := range files {
		if path.Base(f) == "go.mod" {
			modules = append(modules, path.Dir(f))
		}
	}
	for _, module := range modules {
		if slices.Contains(private, module) {
			continue
		}
		var own []string
		for _, f := range files {
			if moduleOf(f, modules) == module {
				own = append(own, f)
			}
		}
		if err := c.pack(module, own); err != nil {
			return fmt.Errorf("%s: %w", module, err)
		}
	}
	return nil
}

// moduleOf returns the innermost module that contains a file.
func moduleOf(file string, modules []string) string {
	for dir := path.Dir(file); ; dir = path.Dir(dir) {
		if dir == "." || slices.Contains(modules, dir) {
			return dir
		}
	}
}

// pack writes one version of a module into the proxy.
func (c *checker) pack(module string, files []string) error {
	name := root
	if module != "." {
		name = root + "/" + module
	}
	mod, err := released(module)
	if err != nil {
		return err
	}
	at := filepath.Join(c.proxy, filepath.FromSlash(name), "@v")
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	info, _ := json.Marshal(map[string]any{"Version": version, "Time": time.Now().UTC()}) // cannot fail
	for file, text := range map[string][]byte{"list": []byte(version + "\n"), version + ".info": info, version + ".mod": mod} {
		if err := os.WriteFile(filepath.Join(at, file), text, 0o600); err != nil {
			return err
		}
	}
	out, err := os.Create(filepath.Join(at, version+".zip"))
	if err != nil {
		return err
	}
	defer out.Close()
	z := zip.NewWriter(out)
	for _, file := range files {
		inside := strings.TrimPrefix(strings.TrimPrefix(file, module), "/")
		w, err := z.Create(name + "@" + version + "/" + inside)
		if err != nil {
			return err
		}
		if inside == "go.mod" {
			_, err = w.Write(mod)
		} else {
			err = copyFile(w, file)
		}
		if err != nil {
			return err
		}
	}
	c.note("%s, %d files", name, len(files))
	return z.Close()
}

func copyFile(w io.Writer, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// released returns a module's go.mod as it is released: modules of this repository
// are required at the release's version, and no longer replaced.
func released(module string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "wxtoken-mod-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "go.mod")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	edit := func(args ...string) ([]byte, error) {
		out, err := exec.Command("go", append(append([]string{"mod", "edit"}, args...), file)...).Output()
		if err != nil {
			return nil, fmt.Errorf("go mod edit: %w", err)
		}
		return out, nil
	}
	described, err := edit("-json")
	if err != nil {
		return nil, err
	}
	var mod struct {
		Require []struct{ Path string }
		Replace []struct{ Old struct{ Path string } }
	}
	if err := json.Unmarshal(described, &mod); err != nil {
		return nil, err
	}
	args := []string{"-fmt"}
	for _, r := range mod.Require {
		if r.Path == root || strings.HasPrefix(r.Path, root+"/") {
			args = append(args, "-require="+r.Path+"@"+version)
		}
	}
	for _, r := range mod.Replace {
		if r.Old.Path == root || strings.HasPrefix(r.Old.Path, root+"/") {
			args = append(args, "-dropreplace="+r.Old.Path)
		}
	}
	if _, err := edit(args...); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}
