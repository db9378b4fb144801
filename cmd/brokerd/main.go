// Command brokerd is one broker: a replica of a broker group, and an endpoint for
// RocketMQ clients.
package main

import (
	"os"

	"holdfast/cmd/internal/daemon"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "recover" {
		os.Exit(recoverCommand(os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(daemon.Main(daemon.BrokerFile(), os.Args[1:], run))
}
