// Command vipagent holds virtual IP addresses on this host under leases of the
// coordinators.
package main

import (
	"os"

	"holdfast/cmd/internal/daemon"
)

func main() { os.Exit(daemon.Main(daemon.AgentFile(), os.Args[1:], run)) }
