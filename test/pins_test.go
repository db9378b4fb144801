package test

import (
	"os"
	"regexp"
	"testing"
)

// TestPinnedTogether holds the versions that belong together. raft-boltdb
// v2.3.1 and memberlist v0.6.0 import go-metrics' package compat, which
// go-metrics v0.7.0 no longer has; raft v1.8.0 and memberlist v0.7.0 ask for
// that v0.7.0. So an ordinary `go get -u` breaks the build. When raft-boltdb
// has a release for go-metrics v0.7.0, move all of them at once. bbolt is named
// because raft-boltdb alone would take v1.3.5.
func TestPinnedTogether(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for module, version := range map[string]string{
		"github.com/hashicorp/raft":           "v1.7.3",
		"github.com/hashicorp/raft-boltdb/v2": "v2.3.1",
		"github.com/hashicorp/memberlist":     "v0.6.0",
		"github.com/hashicorp/go-metrics":     "v0.6.0",
		"github.com/vishvananda/netlink":      "v1.3.1",
		"go.etcd.io/bbolt":                    "v1.5.0",
	} {
		line := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(module) + ` (\S+)`).FindSubmatch(mod)
		if line == nil {
			t.Errorf("%s is gone from go.mod", module)
		} else if got := string(line[1]); got != version {
			t.Errorf("%s %s: must stay at %s until all of this list can move together", module, got, version)
		}
	}
}
