package daemon

import (
	"cmp"
	"runtime/debug"
)

// version is set at link time by a release build:
// -ldflags "-X holdfast/cmd/internal/daemon.version=v1.2.3".
var version string

// Version names the build: the release, else what the Go toolchain recorded
// of the source's commit, else "devel".
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return cmp.Or(version, "devel")
	}
	return versionFrom(version, info)
}

func versionFrom(release string, info *debug.BuildInfo) string {
	if release != "" {
		return release
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+dirty"
			}
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision + dirty
}
