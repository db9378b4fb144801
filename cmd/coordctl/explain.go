package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	pb "holdfast/coordinator/api/holdfastpb"
)

func (t *tool) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "explain VIP",
		Short:             "Tell why a VIP is here, why not there, and what happens if a host dies now",
		Args:              exactArgs("the name of one VIP set"),
		ValidArgsFunction: t.completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.repeat(cmd.Context(), func() error { return t.explain(cmd.Context(), args[0]) })
		},
	}
}

func (t *tool) explain(ctx context.Context, set string) error {
	e, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.ExplainReply, error) {
		return op.Explain(ctx, &pb.ExplainRequest{Set: set})
	})
	if err != nil {
		return err
	}
	return t.print(e, func(w io.Writer) { t.explainTable(w, e) }, []string{e.Set})
}

func (t *tool) explainTable(w io.Writer, e *pb.ExplainReply) {
	v := e.Status
	where := "nobody holds it"
	if v.Holder != "" {
		where = fmt.Sprintf("held by %s, epoch %d, lease left %s, heard %s", t.paint(bold, v.Holder), v.Epoch, left(v.LeaseLeftMs), ago(v.ClaimAgeMs))
	}
	fmt.Fprintf(w, "%s: %s\n", t.paint(bold, e.Set), where)
	if v.Reason != "" {
		fmt.Fprintln(w, "  "+v.Reason)
	}
	fmt.Fprintln(w, "\nDECISION\n  "+e.Decision)
	rows := []string{row("\nHOST", "PRIORITY", "EFFECTIVE", "CAN HOLD", "WHY")}
	for _, c := range e.Candidates {
		can := t.paint(red, "no")
		if c.Eligible {
			can = t.paint(green, "yes")
		}
		host := c.Host
		if c.Holder {
			host += " (holder)"
		}
		rows = append(rows, row(host, fmt.Sprint(c.Priority), fmt.Sprint(c.Effective), can, strings.Join(c.Reasons, "; ")))
	}
	columns(w, rows...)
	rows = []string{row("\nIF IT DIES NOW", "NEXT", "WHY")}
	for _, l := range e.IfHostDies {
		next := l.Next
		if next == "" {
			next = t.paint(red, "nobody")
		}
		rows = append(rows, row(l.Host, next, l.Reason))
	}
	columns(w, rows...)
	if len(e.History) > 0 {
		rows = []string{row("\nHISTORY", "", "", "", "")}
		for _, ev := range e.History {
			rows = append(rows, eventRow(ev))
		}
		columns(w, rows...)
	}
}

// completeSets completes names of VIP sets from the live cluster.
func (t *tool) completeSets(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return t.complete(cmd, func(s *pb.StatusReply) (names []string) {
		for _, v := range s.Vips {
			names = append(names, v.Set.Name)
		}
		return names
	})
}

// completeHosts completes names of hosts from the live cluster.
func (t *tool) completeHosts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return t.complete(cmd, hostsOf)
}

// completeCoordinators completes names of coordinators from the live cluster.
func (t *tool) completeCoordinators(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return t.complete(cmd, func(s *pb.StatusReply) (names []string) {
		for _, c := range s.Coordinators {
			names = append(names, c.Name)
		}
		return names
	})
}

func hostsOf(s *pb.StatusReply) (names []string) {
	for _, a := range s.Agents {
		names = append(names, a.Host)
	}
	return names
}

func (t *tool) complete(cmd *cobra.Command, names func(*pb.StatusReply) []string) ([]string, cobra.ShellCompDirective) {
	defer t.close()
	s, err := call(t, cmd.Context(), func(ctx context.Context, op pb.OperatorClient) (*pb.StatusReply, error) {
		return op.Status(ctx, &pb.StatusRequest{})
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveError
	}
	return names(s), cobra.ShellCompDirectiveNoFileComp
}
