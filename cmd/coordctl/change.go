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

func (t *tool) moveCommand() *cobra.Command {
	var to, cause string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "move VIP",
		Short: "Move a VIP set to another host",
		Long: `Move a VIP set to another host. The holder takes it down, then the new host takes it: clients wait for
milliseconds, not for a lease to end. It stays there while that host is fit, whatever the priorities say;
--to auto gives the choice back to the scheduler.`,
		Args:              exactArgs("the name of one VIP set"),
		ValidArgsFunction: t.completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "to"); err != nil {
				return err
			}
			if to == "auto" {
				to = ""
			}
			return t.move(cmd.Context(), &pb.MoveRequest{Set: args[0], To: to, Cause: cause}, noWait)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "host to move to (auto: the scheduler's choice)")
	cmd.Flags().StringVar(&cause, "cause", "", "why, for the audit ring")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it has moved")
	_ = cmd.RegisterFlagCompletionFunc("to", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return t.complete(cmd, hostsOf)
	})
	return cmd
}

func (t *tool) move(ctx context.Context, r *pb.MoveRequest, noWait bool) error {
	begun := time.Now()
	reply, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.MoveReply, error) { return op.Move(ctx, r) })
	if err != nil {
		return err
	}
	if noWait || r.To == "" {
		return t.print(reply, func(w io.Writer) { fmt.Fprintf(w, "%s: asked, it was on %s\n", r.Set, dash(reply.From)) }, []string{r.Set})
	}
	v, err := t.awaitHolder(ctx, r.Set, func(v *pb.VIPStatus) bool { return v.Holder == r.To && v.Recall == nil })
	if err != nil {
		return err
	}
	took := time.Since(begun).Round(time.Millisecond)
	return t.print(v, func(w io.Writer) {
		if reply.From == r.To {
			fmt.Fprintf(w, "%s: was on %s already, and stays there\n", r.Set, r.To)
			return
		}
		fmt.Fprintf(w, "%s: moved from %s to %s in %s, epoch %d\n", r.Set, dash(reply.From), r.To, took, v.Epoch)
	}, []string{r.Set})
}

func (t *tool) drainCommand() *cobra.Command {
	var noWait bool
	var cause string
	cmd := &cobra.Command{
		Use:   "drain HOST",
		Short: "Move everything away from a host and keep it empty",
		Long: `Move everything away from a host and keep it empty until it is undrained. What has no other host
that can hold it stays, and is named.`,
		Args:              exactArgs("the name of one host"),
		ValidArgsFunction: t.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.drain(cmd.Context(), &pb.DrainRequest{Host: args[0], Drained: true, Cause: cause}, noWait)
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is empty")
	cmd.Flags().StringVar(&cause, "cause", "", "why, for the audit ring")
	return cmd
}

func (t *tool) drain(ctx context.Context, r *pb.DrainRequest, noWait bool) error {
	begun := time.Now()
	reply, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.DrainReply, error) { return op.Drain(ctx, r) })
	if err != nil {
		return err
	}
	if noWait {
		return t.print(reply, func(w io.Writer) { fmt.Fprintf(w, "%s: draining %s\n", r.Host, plural(len(reply.Holding), "set")) }, reply.Holding)
	}
	holds, err := t.awaitEmpty(ctx, r.Host)
	if err != nil {
		return err
	}
	if len(holds) > 0 {
		return &codedError{code: exitDegraded, err: fmt.Errorf("%s is drained, but still holds %s: no other host can\n  `coordctl explain %s` tells why", r.Host, strings.Join(holds, ", "), holds[0])}
	}
	took := time.Since(begun).Round(time.Millisecond)
	return t.print(reply, func(w io.Writer) {
		fmt.Fprintf(w, "%s: drained in %s, %s moved\n", r.Host, took, plural(len(reply.Holding), "set"))
	}, reply.Holding)
}

// awaitEmpty waits until a host holds nothing, or nothing more has left it for
// a while, and returns what it still holds.
func (t *tool) awaitEmpty(ctx context.Context, host string) ([]string, error) {
	const patience = 2 * time.Second
	deadline, before := time.Now().Add(patience), -1
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.ListSetsReply, error) {
			return op.ListSets(ctx, &pb.ListSetsRequest{})
		})
		if err != nil {
			return nil, err
		}
		var holds []string
		for _, v := range s.Sets {
			if v.Holder == host {
				holds = append(holds, v.Set.Name)
			}
		}
		if len(holds) != before {
			before, deadline = len(holds), time.Now().Add(patience)
		}
		if len(holds) == 0 || time.Now().After(deadline) {
			return holds, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func (t *tool) undrainCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "undrain HOST",
		Short:             "Let a drained host hold again",
		Args:              exactArgs("the name of one host"),
		ValidArgsFunction: t.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := call(t, cmd.Context(), func(ctx context.Context, op pb.OperatorClient) (*pb.DrainReply, error) {
				return op.Drain(ctx, &pb.DrainRequest{Host: args[0]})
			})
			if err != nil {
				return err
			}
			return t.print(reply, func(w io.Writer) { fmt.Fprintf(w, "%s: may hold again\n", args[0]) }, args)
		},
	}
}

func (t *tool) pauseCommand() *cobra.Command {
	return t.pauseOrResume("pause", true, "Leave a VIP set, or everything, as it is",
		`Leave a VIP set (without a name: everything) as it is: nothing is moved, and what becomes free, because its
host dies, stays free until `+"`coordctl resume`"+`. Leases still end at their deadline.`)
}

func (t *tool) resumeCommand() *cobra.Command {
	return t.pauseOrResume("resume", false, "Let the scheduler work again", "")
}

func (t *tool) pauseOrResume(verb string, paused bool, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:               verb + " [VIP]",
		Short:             short,
		Long:              long,
		Args:              func(cmd *cobra.Command, args []string) error { return atMostOne(cmd, args) },
		ValidArgsFunction: t.completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			r := &pb.PauseRequest{Paused: paused}
			what := "everything"
			if len(args) == 1 {
				r.Set, what = args[0], args[0]
			}
			reply, err := call(t, cmd.Context(), func(ctx context.Context, op pb.OperatorClient) (*pb.PauseReply, error) { return op.Pause(ctx, r) })
			if err != nil {
				return err
			}
			return t.print(reply, func(w io.Writer) { fmt.Fprintf(w, "%s: %sd\n", what, verb) }, args)
		},
	}
}

func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError(fmt.Errorf("%s takes at most one name", cmd.CommandPath()))
	}
	return nil
}
