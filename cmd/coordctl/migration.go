package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
)

// migration is the state of one shared set.
type migration struct {
	reply   *pb.StatusReply
	vip     *pb.VIPStatus
	set     *pb.VIPSet
	routers map[string]*pb.Router // by host, of those whose agent is live
	silent  []string              // candidates without a live agent
}

func (t *tool) migration(ctx context.Context, name string) (*migration, error) {
	s, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.StatusReply, error) {
		return op.Status(ctx, &pb.StatusRequest{})
	})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.GetVips(), func(v *pb.VIPStatus) bool { return v.GetSet().GetName() == name })
	if i < 0 {
		return nil, fmt.Errorf("no VIP set %q; `coordctl vip list` shows what there is", name)
	}
	m := &migration{reply: s, vip: s.Vips[i], set: s.Vips[i].GetSet(), routers: make(map[string]*pb.Router)}
	if m.set.GetVrrp() == nil {
		return nil, fmt.Errorf("%s has no VRRP: add `vrrp:` to it (`coordctl vip apply --help`), or take it from the files: coordctl import", name)
	}
	for _, c := range m.set.GetCandidates() {
		live := false
		for _, a := range s.GetAgents() {
			if a.GetHost() != c.GetHost() || !a.GetLive() {
				continue
			}
			live = true
			for _, r := range a.GetRouters() {
				if r.GetSet() == name {
					m.routers[a.GetHost()] = r
				}
			}
		}
		if !live {
			m.silent = append(m.silent, c.GetHost())
		}
	}
	return m, nil
}

func (m *migration) addresses() []string {
	var out []string
	for _, a := range m.set.GetAddresses() {
		address, _, _ := strings.Cut(a.GetPrefix(), "/")
		out = append(out, address)
	}
	return out
}

// active says whether the holder is the Active router.
func (m *migration) active() bool {
	return m.set.GetVrrp().GetMode() == fsm.VRRPJoin && m.vip.GetRouter().GetState() == "active"
}

func (m *migration) observed() (string, bool) {
	for _, c := range m.set.GetCandidates() {
		if r := m.routers[c.GetHost()]; r == nil && !slices.Contains(m.silent, c.GetHost()) {
			return c.GetHost() + " has not said what it hears", false
		} else if r != nil && r.GetState() != "listening" {
			return c.GetHost() + " is still " + r.GetState(), false
		}
	}
	if len(m.routers) == 0 {
		return "no agent is live", false
	}
	return "all hosts listen", true
}

func (m *migration) joined() (string, bool) {
	r := m.vip.GetRouter()
	switch {
	case m.vip.GetHolder() == "":
		return "nobody holds it: " + m.vip.GetReason(), false
	case r == nil || r.GetState() == "listening":
		return m.vip.GetHolder() + " has not begun to take part", false
	}
	return fmt.Sprintf("%s takes part: %s", m.vip.GetHolder(), routerText(r)), true
}

func (m *migration) tookOver() (string, bool) {
	if !m.active() {
		return fmt.Sprintf("%s is %s", dash(m.vip.GetHolder()), routerText(m.vip.GetRouter())), false
	}
	return m.vip.GetHolder() + " is the Active router", true
}

func (m *migration) ended() (string, bool) {
	for host := range m.routers {
		return host + " still takes part in VRRP", false
	}
	return fmt.Sprintf("held by %s, decided by the quorum alone", dash(m.vip.GetHolder())), m.vip.GetHolder() != ""
}

func (m *migration) gaveWay() (string, bool) {
	if m.active() {
		return m.vip.GetHolder() + " is still the Active router", false
	}
	for _, host := range sortedHosts(m.routers) {
		if holder := m.vip.GetHolder(); holder != "" && holder != host {
			continue // it may hear the holder, and not know it yet
		}
		if r := m.routers[host]; r.GetActive() != "" {
			return fmt.Sprintf("%s is Active with priority %d", r.GetActive(), r.GetPriority()), true
		}
	}
	return "no other router is Active", false
}

func sortedHosts(m map[string]*pb.Router) []string {
	var out []string
	for host := range m {
		out = append(out, host)
	}
	slices.Sort(out)
	return out
}

// would is what a host would do if it took part.
func (m *migration) would(host string) string {
	r, v := m.routers[host], m.set.GetVrrp()
	switch {
	case r == nil || v.GetMode() != fsm.VRRPObserve:
		return "-"
	case r.GetActive() == "":
		return "would become Active at once"
	case v.GetPriority() > r.GetPriority() && !v.GetNoPreempt():
		return fmt.Sprintf("would take over: its priority %d is above %d", v.GetPriority(), r.GetPriority())
	}
	return fmt.Sprintf("would be Backup with priority %d", v.GetPriority())
}

// table shows the hosts.
func (m *migration) table(w io.Writer) {
	mode := m.set.GetVrrp().GetMode()
	if mode == fsm.VRRPJoin {
		mode = "join"
	}
	fmt.Fprintf(w, "VRRP %s: VRID %d, version %d, priority %d\n", mode, m.set.GetVrrp().GetVrid(), m.set.GetVrrp().GetVersion(), m.set.GetVrrp().GetPriority())
	rows := []string{row("\nHOST", "VRRP", "ACTIVE ROUTER", "IT WOULD")}
	for _, c := range m.set.GetCandidates() {
		host := c.GetHost()
		r := m.routers[host]
		state, active := "-", "-"
		if r != nil {
			state = r.GetState()
			if r.GetActive() != "" {
				active = fmt.Sprintf("%s (priority %d)", r.GetActive(), r.GetPriority())
			}
		}
		if slices.Contains(m.silent, host) {
			state = "no live agent"
		}
		if host == m.vip.GetHolder() {
			host += " (holder)"
		}
		rows = append(rows, row(host, state, active, m.would(c.GetHost())))
	}
	columns(w, rows...)
}
