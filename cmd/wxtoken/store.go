package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/doctor"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/keys"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
)

// storeVariable names the store if no flag does.
const storeVariable = "WXTOKEN_STORE"

// A target is the record that a command works on.
type target struct {
	url, prefix, keyFile string
	credentials          []string
}

// addFlags adds the flags that name a record.
func (t *target) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&t.url, "store", "", "`URL` of the store: "+store.Forms+"; or env:NAME or @FILE, which hold it; default: the variable "+storeVariable)
	t.addKeyFlags(flags)
}

func (t *target) addKeyFlags(flags *flag.FlagSet) {
	flags.Func("key", "`key` of the credential, without prefix: token:APPID or stable:APPID", func(s string) error {
		if err := doctor.CheckCredential(s); err != nil {
			return errors.New(strings.TrimPrefix(err.Error(), "wxtoken: "))
		}
		t.credentials = append(t.credentials, s)
		return nil
	})
	flags.StringVar(&t.prefix, "prefix", "wxtoken:", "`prefix` of the keys, as in WithKeyPrefix")
	flags.StringVar(&t.keyFile, "key-file", "", "`file` with the keys of WithEncryption, one on each line, as 64 hexadecimal digits or base64")
}

// open opens the store and reads the keys.
func (t *target) open(env environment) (*store.Store, [][32]byte, error) {
	var all [][32]byte
	if t.keyFile != "" {
		var err error
		if all, err = keys.ReadFile(t.keyFile); err != nil {
			return nil, nil, err
		}
	}
	s, err := openStore(env, "-store", t.url)
	return s, all, err
}

// one returns the credential of a command that works on one.
func (t *target) one(command string) (string, error) {
	if len(t.credentials) != 1 {
		return "", fmt.Errorf("wxtoken %s: give it one -key, such as -key token:APPID", command)
	}
	return t.credentials[0], nil
}

// openStore opens the store that a flag names: a URL, or where to find one.
func openStore(env environment, flag, url string) (*store.Store, error) {
	if url == "" && flag == "-store" {
		url = env.getenv(storeVariable)
	}
	if name, ok := strings.CutPrefix(url, "env:"); ok {
		if url = strings.TrimSpace(env.getenv(name)); url == "" {
			return nil, fmt.Errorf("wxtoken: %s names the environment variable %s, which is empty or not set", flag, name)
		}
	}
	if path, ok := strings.CutPrefix(url, "@"); ok {
		var err error
		if url, err = config.ReadSecret(path); err != nil {
			return nil, fmt.Errorf("wxtoken: %s names a file: %w", flag, err)
		}
	}
	if url == "" {
		return nil, fmt.Errorf("wxtoken: give it a store with %s: %s", flag, store.Forms)
	}
	return store.Open(url)
}
