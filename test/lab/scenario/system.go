package scenario

import (
	"context"
	"errors"

	"holdfast/test/lab"
)

// System is what holds the addresses on a stage: a Holdfast cluster, or
// something that it is compared with under the same faults.
type System interface {
	// Ready returns nil when everything of it runs and has found together.
	Ready(context.Context) error
	// Holder returns the host that has the set by the system's own account.
	Holder(ctx context.Context, set string) (string, error)
	// Move makes the host the holder of the set.
	Move(ctx context.Context, set string, to *lab.Host) error
	// Daemons returns what the system runs on a host: first the daemon that holds
	// the addresses, then whatever else.
	Daemons(*lab.Host) []*lab.Process
	// Repair brings back what a scenario broke.
	Repair(context.Context) error
}

func (s *Stage) system() System {
	if s.System != nil {
		return s.System
	}
	return holdfast{s.Cluster}
}

// daemon returns the daemon that holds the addresses.
func (s *Stage) daemon() *lab.Process { return s.system().Daemons(s.Holder)[0] }

// killAll kills everything that the system runs on the holder. All of it stands
// still first: none may see another one end and say farewell, as keepalived's
// child does.
func (s *Stage) killAll() error {
	var errs []error
	for _, p := range s.system().Daemons(s.Holder) {
		errs = append(errs, p.Freeze())
	}
	for _, p := range s.system().Daemons(s.Holder) {
		errs = append(errs, p.Kill())
	}
	return errors.Join(errs...)
}

// holdfast is a cluster as a [System].
type holdfast struct{ cluster *lab.Cluster }

func (h holdfast) Ready(ctx context.Context) error { return h.cluster.WaitReady(ctx) }

func (h holdfast) Holder(ctx context.Context, set string) (string, error) {
	return h.cluster.Holder(ctx, set)
}

func (h holdfast) Move(ctx context.Context, set string, to *lab.Host) error {
	_, err := h.cluster.MustCtl(ctx, "move", set, "--to", to.Name)
	return err
}

func (h holdfast) Daemons(host *lab.Host) []*lab.Process {
	list := []*lab.Process{h.cluster.Agent(host)}
	if p := h.cluster.Coordinator(host); p != nil {
		list = append(list, p)
	}
	return list
}

func (h holdfast) Repair(ctx context.Context) error {
	if err := h.cluster.Repair(ctx); err != nil {
		return err
	}
	for _, host := range h.cluster.Config().Agents {
		if _, err := h.cluster.MustCtl(ctx, "undrain", host.Name); err != nil {
			return err
		}
	}
	return nil
}
