// Command coordinator is one member of the quorum that grants leases.
package main

import (
	"os"
	"slices"

	"holdfast/cmd/internal/daemon"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "recover" {
		os.Exit(recoverMain(slices.Clone(args[1:])))
	}
	os.Exit(daemon.Main(daemon.CoordinatorFile(), args, run))
}
