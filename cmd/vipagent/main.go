// Command vipagent holds virtual IP addresses on this host under leases of the
// coordinators.
package main

import (
	"os"

	"holdfast/cmd/internal/daemon"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "fence" {
		os.Exit(fenceCommand(os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(daemon.Main(daemon.AgentFile().WithJanitor(janitor), os.Args[1:], run))
}
