// Command vipagent holds virtual IP addresses on this host under leases of the
// coordinators, or, with -f and a keepalived.conf, as Keepalived does.
package main

import (
	"os"

	"holdfast/cmd/internal/daemon"
)

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "fence":
			os.Exit(fenceCommand(os.Args[2:], os.Stdout, os.Stderr))
		case "lint":
			os.Exit(lintCommand(os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
		}
	}
	if isPlain(os.Args[0], os.Args[1:]) {
		os.Exit(plainCommand(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(daemon.Main(daemon.AgentFile().WithJanitor(janitor), os.Args[1:], run))
}
