package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "holdfast/coordinator/api/holdfastpb"
)

func (t *tool) brokerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "broker",
		Short: "Define and show broker groups, and say who is master",
		Args:  exactArgs(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(t.brokerStatusCommand(), t.brokerShowCommand(), t.brokerPutCommand(), t.brokerModeCommand(),
		t.brokerSwitchoverCommand(), t.brokerDeleteCommand())
	return cmd
}

func (t *tool) brokerStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the broker groups with their masters, and the brokers",
		Long: `Show the broker groups, one row each: its state, master and epoch, mode, in-sync set, where the master's log ends
and what is confirmed, how far the others are behind (in bytes, as they last reported), and what was lost. Then the brokers.

The exit code is 0 if all groups are served, 3 if one is not.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.repeat(cmd.Context(), func() error { return t.brokerStatus(cmd.Context()) })
		},
	}
}

func (t *tool) brokerStatus(ctx context.Context) error {
	reply, err := t.listGroups(ctx)
	if err != nil {
		return err
	}
	var names []string
	served := true
	for _, g := range reply.Groups {
		names = append(names, g.Group.Name)
		served = served && (g.Verdict == "serving" || g.Verdict == "moving" || g.Verdict == "deleting")
	}
	if err := t.print(reply, func(w io.Writer) {
		columns(w, t.groupRows(reply.Groups)...)
		if len(reply.Groups) == 0 {
			fmt.Fprintln(w, "no broker group is defined yet: coordctl broker put GROUP --member BROKER ...")
		}
		for _, g := range reply.Groups {
			if g.Reason != "" {
				fmt.Fprintf(w, "%s: %s\n", g.Group.Name, g.Reason)
			}
		}
		columns(w, t.brokerRows(reply)...)
	}, names); err != nil {
		return err
	}
	if !served {
		return &codedError{code: exitDegraded}
	}
	return nil
}

func (t *tool) listGroups(ctx context.Context, names ...string) (*pb.ListGroupsReply, error) {
	return call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.ListGroupsReply, error) {
		return op.ListGroups(ctx, &pb.ListGroupsRequest{Names: names})
	})
}

// groupRows is the table of groups.
func (t *tool) groupRows(groups []*pb.GroupStatus) []string {
	wide := t.format == "wide"
	head := row("\nGROUP", "STATE", "MASTER", "EPOCH", "MODE", "IN SYNC", "END", "CONFIRMED", "LAG", "LOST")
	if wide {
		head = row(head, "POLICY", "VERSION", "LEASE LEFT", "CLAIM HEARD")
	}
	rows := []string{head}
	for _, s := range groups {
		g := s.Group
		end, confirmed := "-", "-"
		if r := masterReport(s); r != nil {
			end, confirmed = fmt.Sprint(r.End), fmt.Sprint(r.Confirm)
		}
		r := row(g.Name, t.groupState(s), dash(g.Master), number(g.Epoch), modeText(g.Settings), dash(strings.Join(g.InSync, ",")),
			end, confirmed, lagText(s), t.lostText(s))
		if wide {
			r = row(r, g.Settings.Policy, fmt.Sprint(g.Version), left(s.LeaseLeftMs), ago(s.ClaimAgeMs))
		}
		rows = append(rows, r)
	}
	return rows
}

// masterReport is what the master of a group last said, nil if nothing came.
func masterReport(s *pb.GroupStatus) *pb.GroupReport {
	for _, r := range s.Replicas {
		if r.Broker == s.Group.Master {
			return r.Report
		}
	}
	return nil
}

func (t *tool) groupState(s *pb.GroupStatus) string {
	switch s.Verdict {
	case "serving":
		return t.paint(green, s.Verdict)
	case "moving", "deleting", "paused":
		return t.paint(yellow, s.Verdict)
	}
	return t.paint(red, s.Verdict)
}

// modeText is "sync 2" or "async": the mode, and what sync waits for.
func modeText(s *pb.GroupSettings) string {
	text := s.GetMode()
	if text == "sync" {
		text += fmt.Sprintf(" %d", s.GetMinInSync())
	}
	if s.GetReadLocal() {
		text += ", read local"
	}
	return text
}

// settingsText is settings in words, as for the audit ring.
func settingsText(s *pb.GroupSettings) string {
	text := fmt.Sprintf("mode %s, min_in_sync %d, policy %s", s.GetMode(), s.GetMinInSync(), s.GetPolicy())
	if s.GetReadLocal() {
		text += ", read local"
	}
	return text
}

// lagText is how far each of the others is behind.
func lagText(s *pb.GroupStatus) string {
	var parts []string
	for _, r := range s.Replicas {
		switch {
		case r.Broker == s.Group.Master:
		case r.LagBytes < 0:
			parts = append(parts, r.Broker+" ?")
		default:
			parts = append(parts, fmt.Sprintf("%s %d", r.Broker, r.LagBytes))
		}
	}
	return dash(strings.Join(parts, ", "))
}

// lostText is what the master says was lost: records for certain, and bytes that may be
// on replicas which are not back.
func (t *tool) lostText(s *pb.GroupStatus) string {
	r := masterReport(s)
	switch {
	case r == nil:
		return "-"
	case r.UnknownBytes > 0:
		return t.paint(red, fmt.Sprintf("%d records, and up to %d bytes", r.LostRecords, r.UnknownBytes))
	case r.LostRecords > 0:
		return t.paint(red, plural(int(r.LostRecords), "record"))
	}
	return "0"
}

// brokerRows is the table of brokers with an open session.
func (t *tool) brokerRows(reply *pb.ListGroupsReply) []string {
	rows := []string{row("\nBROKER", "HOST", "STATE", "RENEWED", "CLIENTS AT", "BROKERS AT", "MASTER OF")}
	for _, b := range reply.Brokers {
		state := t.paint(green, "live")
		if !b.Live {
			state = t.paint(red, "silent")
		}
		var masters []string
		for _, g := range reply.Groups {
			if g.Group.Master == b.Broker.Name {
				masters = append(masters, g.Group.Name)
			}
		}
		rows = append(rows, row(b.Broker.Name, b.Broker.Host, state, ago(b.RenewedMsAgo), b.Broker.Client, b.Broker.Replication,
			dash(shorten(masters, t.format == "wide"))))
	}
	return rows
}

func (t *tool) brokerShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show GROUP",
		Short:             "Show one broker group with its members, and why it has this master",
		Args:              exactArgs("the name of one broker group"),
		ValidArgsFunction: t.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.repeat(cmd.Context(), func() error {
				reply, err := t.listGroups(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return t.print(reply.Groups[0], func(w io.Writer) { t.groupTable(w, reply.Groups[0]) }, args)
			})
		},
	}
}

func (t *tool) groupTable(w io.Writer, s *pb.GroupStatus) {
	g := s.Group
	where := "no master"
	if g.Master != "" {
		where = fmt.Sprintf("master %s, epoch %d, lease left %s, heard %s", t.paint(bold, g.Master), g.Epoch, left(s.LeaseLeftMs), ago(s.ClaimAgeMs))
	}
	fmt.Fprintf(w, "%s: %s, %s\n  %s\n", t.paint(bold, g.Name), t.groupState(s), where, settingsText(g.Settings))
	if settingsText(g.Next) != settingsText(g.Settings) {
		fmt.Fprintf(w, "  with the next grant: %s\n", settingsText(g.Next))
	}
	fmt.Fprintf(w, "  in-sync set %s, version %d; last master %s\n", dash(strings.Join(g.InSync, ",")), g.Version, dash(g.Last))
	if s.Reason != "" && s.Reason != s.Decision {
		fmt.Fprintln(w, "  "+s.Reason)
	}
	fmt.Fprintln(w, "\nDECISION\n  "+s.Decision)
	rows := []string{row("\nMEMBER", "PRIORITY", "STATE", "IN SYNC", "ROLE", "LAST EPOCH", "END", "DURABLE", "CONFIRMED", "LAG", "REPORTED", "NOTE")}
	for _, r := range s.Replicas {
		state, inSync := t.paint(red, "not live"), "no"
		if r.Live {
			state = t.paint(green, "live")
		}
		if r.InSync {
			inSync = "yes"
		}
		role, last, end, durable, confirm, note := "-", "-", "-", "-", "-", ""
		if said := r.Report; said != nil {
			role, last, end = dash(said.Role), fmt.Sprint(said.LastEpoch), fmt.Sprint(said.End)
			durable, confirm = fmt.Sprint(said.Durable), fmt.Sprint(said.Confirm)
			if note = said.Unfit; note != "" {
				note = t.paint(red, "cannot be master: "+note)
			}
		}
		lag := "?"
		if r.LagBytes >= 0 {
			lag = fmt.Sprint(r.LagBytes)
		}
		rows = append(rows, row(r.Broker, fmt.Sprint(r.Priority), state, inSync, role, last, end, durable, confirm, lag, ago(r.ReportedMsAgo), dash(note)))
	}
	columns(w, rows...)
	fmt.Fprintln(w, "\nLOST\n  "+t.lostText(s))
}

// awaitGroup waits until a group is as wanted; nil is a group that is gone. It tells what
// it waited for when the time is over.
func (t *tool) awaitGroup(ctx context.Context, name string, done func(*pb.GroupStatus) bool) (*pb.GroupStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		reply, err := t.listGroups(ctx)
		if err != nil {
			return nil, err
		}
		var s *pb.GroupStatus
		for _, g := range reply.Groups {
			if g.Group.Name == name {
				s = g
			}
		}
		if done(s) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			now := "gone"
			if s != nil {
				now = fmt.Sprintf("%s, master %s: %s", s.Verdict, dash(s.Group.Master), s.Decision)
			}
			return nil, &codedError{code: exitTimeout, err: fmt.Errorf("%s is still %s, after %s\n  `coordctl broker show %s` tells more", name, now, t.timeout, name)}
		case <-tick.C:
		}
	}
}

// completeGroups completes names of broker groups from the live cluster.
func (t *tool) completeGroups(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return t.complete(cmd, func(s *pb.StatusReply) (names []string) {
		for _, g := range s.Groups {
			names = append(names, g.Group.Name)
		}
		return names
	})
}

// completeBrokers completes names of brokers with an open session.
func (t *tool) completeBrokers(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return t.complete(cmd, func(s *pb.StatusReply) (names []string) {
		for _, b := range s.Brokers {
			names = append(names, b.Broker.Name)
		}
		return names
	})
}
