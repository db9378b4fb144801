package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	pb "holdfast/coordinator/api/holdfastpb"
)

func (t *tool) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the whole cluster on one screen, the verdict first",
		Long: `Show the whole cluster on one screen: the verdict, the coordinators, the agents, the VIPs with
holder, epoch, lease left and the age of each claim, the last five events, and what to do next.

The exit code is 0 if all is well, 3 if something is degraded, 4 without quorum.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.repeat(cmd.Context(), func() error { return t.status(cmd.Context()) })
		},
	}
}

func (t *tool) status(ctx context.Context) error {
	s, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.StatusReply, error) {
		return op.Status(ctx, &pb.StatusRequest{})
	})
	if err != nil {
		return err
	}
	var names []string
	for _, v := range s.Vips {
		names = append(names, v.Set.Name)
	}
	if err := t.print(s, func(w io.Writer) { t.statusTable(w, s) }, names); err != nil {
		return err
	}
	switch s.Verdict {
	case "no-quorum":
		return &codedError{code: exitNoQuorum}
	case "degraded":
		return &codedError{code: exitDegraded}
	}
	return nil
}

func (t *tool) statusTable(w io.Writer, s *pb.StatusReply) {
	fmt.Fprintln(w, t.verdictLine(s))
	for _, p := range s.Problems {
		fmt.Fprintln(w, "  - "+p)
	}
	wide := t.format == "wide"

	head := row("\nCOORDINATOR", "ROLE", "APPLIED", "TRAILS LEADER BY", "LAST CONTACT")
	if wide {
		head = row(head, "API", "VERSION")
	}
	rows := []string{head}
	for _, c := range s.Coordinators {
		r := row(c.Name, t.roleText(c), fmt.Sprint(c.AppliedIndex), trails(c), contact(c))
		if wide {
			r = row(r, dash(c.ApiAddress), dash(c.Version))
		}
		rows = append(rows, r)
	}
	columns(w, rows...)

	rows = []string{row("\nAGENT", "STATE", "RENEWED", "TTL", "FENCE", "HOLDS", "NOTE")}
	for _, a := range s.Agents {
		rows = append(rows, row(a.Host, t.agentState(a), ago(a.RenewedMsAgo), ttl(a.TtlMs), t.fenceText(a), dash(shorten(a.Holds, wide)), dash(agentNote(a))))
	}
	columns(w, rows...)

	columns(w, t.vipRows(s.Vips)...)
	if len(s.Vips)+len(s.Groups) == 0 {
		fmt.Fprintln(w, "no VIP is defined yet: coordctl vip apply -f FILE")
	}
	if len(s.Groups) > 0 {
		columns(w, t.groupRows(s.Groups)...)
	}
	if len(s.Groups)+len(s.Brokers) > 0 {
		columns(w, t.brokerRows(&pb.ListGroupsReply{Groups: s.Groups, Brokers: s.Brokers})...)
	}
	for _, r := range s.Retiring {
		fmt.Fprintf(w, "retiring: %s left %s and is not confirmed down by session %d\n", r.Address, r.Set, r.Session)
	}

	if len(s.Events) > 0 {
		rows = []string{row("\nLAST EVENTS", "", "", "", "")}
		for _, e := range s.Events {
			rows = append(rows, eventRow(e))
		}
		columns(w, rows...)
	}
	for i, a := range s.Advice {
		if i == 0 {
			fmt.Fprintln(w, "\nNEXT")
		}
		fmt.Fprintln(w, "  "+a)
	}
}

func (t *tool) verdictLine(s *pb.StatusReply) string {
	held := 0
	for _, v := range s.Vips {
		if v.Holder != "" {
			held++
		}
	}
	facts := fmt.Sprintf("%d of %s held, leader %s, term %d, answered by %s", held, plural(len(s.Vips), "VIP set"), dash(s.Leader), s.Term, s.AnsweredBy)
	if n := len(s.Groups); n > 0 {
		masters := 0
		for _, g := range s.Groups {
			if g.Group.Master != "" {
				masters++
			}
		}
		facts = fmt.Sprintf("%d of %s with a master, %s", masters, plural(n, "broker group"), facts)
	}
	if s.Paused {
		facts += ", PAUSED: nothing is given or moved (coordctl resume)"
	}
	switch s.Verdict {
	case "ok":
		return t.paint(green, "OK") + ": " + facts
	case "degraded":
		return t.paint(yellow, "DEGRADED") + ": " + facts
	}
	return t.paint(red, "NO QUORUM") + ": " + facts
}

func (t *tool) roleText(c *pb.CoordinatorStatus) string {
	switch {
	case c.Role == "unreachable":
		return t.paint(red, c.Role)
	case c.Quiet:
		return c.Role + " (quiet)"
	}
	return c.Role
}

func trails(c *pb.CoordinatorStatus) string {
	if !c.Reachable {
		return "?"
	}
	return fmt.Sprint(c.TrailsLeaderBy)
}

func contact(c *pb.CoordinatorStatus) string {
	if !c.Reachable || c.LastContactMs < 0 {
		return "-"
	}
	return ago(c.LastContactMs)
}

func (t *tool) agentState(a *pb.AgentStatus) string {
	switch {
	case a.Session == 0:
		return t.paint(red, "no session")
	case !a.Live:
		return t.paint(red, "silent")
	case a.Drained:
		return t.paint(yellow, "drained")
	}
	return t.paint(green, "live")
}

// fenceText is what the agent says that its kernel holds: "ebpf, 830ms left, 12
// dropped".
func (t *tool) fenceText(a *pb.AgentStatus) string {
	switch a.Fence {
	case "":
		return "-"
	case "none":
		return t.paint(yellow, a.Fence)
	case "refused":
		return t.paint(red, "self-check failed")
	}
	kind := a.Fence
	if kind != "ebpf" {
		kind = t.paint(yellow, kind)
	}
	end := "closed"
	if a.FenceLeftMs > 0 {
		end = left(a.FenceLeftMs) + " left"
	}
	text := fmt.Sprintf("%s, %s, %d dropped", kind, end, a.FenceDropped)
	if t.format == "wide" {
		text += ", on " + plural(int(a.FenceInterfaces), "interface")
	}
	return text
}

func agentNote(a *pb.AgentStatus) string {
	var notes []string
	for _, c := range a.Conditions {
		what := fmt.Sprintf("%+d", c.Weight)
		if c.Veto {
			what = "must not hold"
		}
		notes = append(notes, strings.TrimSpace(fmt.Sprintf("%s %s: %s", what, c.Set, c.Reason)))
	}
	for _, r := range a.Routers {
		notes = append(notes, "VRRP of "+r.Set+": "+routerText(r))
	}
	return strings.Join(notes, "; ")
}

// routerText is how a host stands in the VRRP of a shared set.
func routerText(r *pb.Router) string {
	if r.GetActive() == "" {
		return r.GetState()
	}
	return fmt.Sprintf("%s, %s is Active (%d)", r.GetState(), r.GetActive(), r.GetPriority())
}

func ttl(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return left(ms)
}

// shorten names a few and counts the rest.
func shorten(names []string, all bool) string {
	const few = 4
	if all || len(names) <= few {
		return strings.Join(names, ",")
	}
	return fmt.Sprintf("%s,... (%d)", strings.Join(names[:few], ","), len(names))
}

// vipRows is the table of VIP sets, for status and for vip list.
func (t *tool) vipRows(vips []*pb.VIPStatus) []string {
	wide := t.format == "wide"
	head := row("\nVIP", "ADDRESSES", "STATE", "HOLDER", "EPOCH", "LEASE LEFT", "CLAIM HEARD")
	if wide {
		head = row(head, "SESSION", "CANDIDATES", "PREEMPT")
	}
	rows := []string{head}
	for _, v := range vips {
		var addresses []string
		for _, a := range v.Set.Addresses {
			addresses = append(addresses, a.Prefix)
		}
		state := v.Verdict
		switch state {
		case "held":
			if r := v.GetRouter(); r != nil && r.GetState() != "active" {
				state = t.paint(yellow, "held, VRRP "+routerText(r))
			} else {
				state = t.paint(green, state)
			}
		case "free", "lapsing":
			state = t.paint(red, state)
		default:
			state = t.paint(yellow, state)
		}
		if v.Set.Paused && v.Verdict != "paused" {
			state += " (paused)"
		}
		if v.Recall != nil && v.Recall.To != "" {
			state += " to " + v.Recall.To
		}
		r := row(v.Set.Name, dash(shorten(addresses, wide)), state, dash(v.Holder), number(v.Epoch), left(v.LeaseLeftMs), claim(v))
		if wide {
			r = row(r, number(v.Session), candidates(v.Set), fmt.Sprint(v.Set.Preempt))
		}
		rows = append(rows, r)
	}
	return rows
}

func claim(v *pb.VIPStatus) string {
	if v.Holder == "" {
		return "-"
	}
	return ago(v.ClaimAgeMs)
}

func number(n uint64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func candidates(s *pb.VIPSet) string {
	var out []string
	for _, c := range s.Candidates {
		out = append(out, fmt.Sprintf("%s:%d", c.Host, c.Priority))
	}
	return strings.Join(out, ",")
}
