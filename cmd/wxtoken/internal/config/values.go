package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// values reads JSON and resolves what its strings refer to. It detects duplicate
// keys, which package encoding/json lets pass.
type values struct {
	getenv func(string) string
	files  map[string]string // by place: the file that a value came from
	order  []string          // the same files, in order
	inline bool              // a secret is in the JSON itself
}

func (v *values) read(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	d.UseNumber()
	tree, err := v.value(d, "")
	var own *mistake
	switch {
	case errors.As(err, &own):
		return nil, own
	case err != nil:
		line := 1 + bytes.Count(text[:min(int(d.InputOffset()), len(text))], []byte("\n"))
		return nil, fmt.Errorf("wxtoken: the configuration is not JSON: line %d: %w", line, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("wxtoken: the configuration has data after its JSON")
	}
	return tree, nil
}

// A mistake is about a value at a place such as apps[0].secret.
type mistake struct{ place, text string }

func (m *mistake) Error() string {
	return fmt.Sprintf("wxtoken: the configuration: %s %s", m.place, m.text)
}

func (v *values) value(d *json.Decoder, place string) (any, error) {
	token, err := d.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return v.object(d, place)
		}
		return v.array(d, place)
	case string:
		return v.text(t, place)
	}
	return token, nil
}

func (v *values) object(d *json.Decoder, place string) (any, error) {
	all := map[string]any{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		key := token.(string) // guaranteed by the decoder
		inside := strings.TrimPrefix(place+"."+key, ".")
		if _, twice := all[key]; twice {
			return nil, &mistake{inside, "appears twice"}
		}
		if all[key], err = v.value(d, inside); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return all, err
}

func (v *values) array(d *json.Decoder, place string) (any, error) {
	all := []any{}
	for d.More() {
		one, err := v.value(d, fmt.Sprintf("%s[%d]", place, len(all)))
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	_, err := d.Token()
	return all, err
}

// text returns what a string stands for.
func (v *values) text(s, place string) (string, error) {
	if name, ok := strings.CutPrefix(s, "env:"); ok {
		if s = strings.TrimSpace(v.getenv(name)); s == "" {
			return "", &mistake{place, fmt.Sprintf("names the environment variable %s, which is empty or not set", name)}
		}
		return s, nil
	}
	if path, ok := strings.CutPrefix(s, "@"); ok {
		text, err := ReadSecret(path)
		if err != nil {
			return "", &mistake{place, fmt.Sprintf("names a file: %v", err)}
		}
		v.files[place] = path
		v.order = append(v.order, path)
		return text, nil
	}
	if s != strings.TrimSpace(s) {
		return "", &mistake{place, "has a blank or a line end at one of its ends"}
	}
	if s != "" && (strings.HasSuffix(place, "secret") || strings.HasPrefix(place, "encryption") ||
		strings.HasSuffix(place, "encoding_aes_key") || place == "store" && strings.Contains(s, "@")) {
		v.inline = true
	}
	return s, nil
}

// ReadSecret reads a file without leading and trailing blanks. An empty file is an
// error.
func ReadSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if len(text) > 64<<10 {
		return "", fmt.Errorf("%s is over 64 KiB", path)
	}
	s := strings.TrimSpace(string(text))
	if s == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return s, nil
}
