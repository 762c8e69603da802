package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

func versionCommand(_ context.Context, env environment, args []string) (int, error) {
	if err := parse(env, flag.NewFlagSet("version", flag.ContinueOnError), args); err != nil {
		return exitUsage, err
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return exitFailed, fmt.Errorf("wxtoken version: this program was built without module information")
	}
	fmt.Fprint(env.stdout, describe(info))
	return exitOK, nil
}

// describe says which build this is: what go version -m knows, for people.
func describe(info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	version := info.Main.Version
	if version == "" {
		version = "(devel)"
	}
	text := fmt.Sprintf("wxtoken %s\n", version)
	if revision := settings["vcs.revision"]; revision != "" {
		if settings["vcs.modified"] == "true" {
			revision += ", with uncommitted changes"
		}
		text += fmt.Sprintf("commit  %s\ntime    %s\n", revision, settings["vcs.time"])
	}
	return text + fmt.Sprintf("go      %s %s/%s\n", info.GoVersion, runtime.GOOS, runtime.GOARCH)
}
