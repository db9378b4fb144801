package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"holdfast/cmd/internal/daemon"
	"holdfast/coordinator/raftnode"
	"holdfast/fsm"
)

// recoverMain rewrites the member list of a stopped coordinator after the
// majority was lost for good. It is the last resort: see docs/operations.md.
func recoverMain(args []string) int {
	fs := pflag.NewFlagSet("coordinator recover", pflag.ContinueOnError)
	path := fs.String("config", "/etc/holdfast/coordinator.yaml", "configuration file of this coordinator")
	peers := fs.String("peers", "", `file with the members that are left: [{"id": "NAME", "address": "IP:7951"}]`)
	yes := fs.Bool("yes", false, "all other members are gone for good and will be wiped")
	fs.Usage = func() {
		fmt.Fprintf(os.Stderr, `usage: coordinator recover --peers FILE --yes [--config FILE]

Makes the members in FILE the whole quorum. Run it on each of them while it is stopped, with the same file.
Entries that only the lost members had are lost with them.

%s`, fs.FlagUsages())
	}
	switch err := fs.Parse(args); {
	case err == pflag.ErrHelp:
		return daemon.ExitOK
	case err != nil || *peers == "" || !*yes:
		fs.Usage()
		return daemon.ExitUsage
	}
	cfg, _, err := daemon.CoordinatorFile().Load(*path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "coordinator recover: cannot use the configuration\n"+err.Error())
		return daemon.ExitUsage
	}
	err = raftnode.Recover(raftnode.Config{
		Name: cfg.Name, Dir: cfg.DataDir, Advertise: cfg.AdvertiseRaft().String(), Machine: &replica{fsm.New()},
		Logger: daemon.NewLogger(os.Stderr, cfg.Log),
	}, *peers)
	if err != nil {
		fmt.Fprintln(os.Stderr, "coordinator recover:", err)
		return daemon.ExitError
	}
	fmt.Println("recovered; start the coordinators that the file names")
	return daemon.ExitOK
}

// replica is the replicated state alone, without the coordinator around it.
type replica struct{ state *fsm.State }

func (r *replica) Apply(index uint64, data []byte) (any, error) { return r.state.Apply(index, data) }
func (r *replica) Configured(index uint64)                      { r.state.SetConfiguration(index) }
func (r *replica) Snapshot() ([]byte, error)                    { return r.state.Snapshot(), nil }
func (r *replica) Persisted(uint64)                             {}

func (r *replica) Restore(data []byte) (err error) {
	r.state, err = fsm.Restore(data)
	return err
}
