package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	pb "holdfast/coordinator/api/holdfastpb"
)

func (t *tool) vipCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vip",
		Short: "Define and list VIP sets",
		Args:  exactArgs(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(t.vipApplyCommand(), t.vipListCommand(), t.vipShowCommand(), t.vipDeleteCommand())
	return cmd
}

func (t *tool) vipApplyCommand() *cobra.Command {
	var file, cause string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or change the VIP sets of a file, all or none",
		Long: `Create or change the VIP sets of a YAML file, all or none. Sets that the file does not name stay as they are.

  vips:
    - name: web
      addresses:
        - 10.0.0.50/24
        - 2001:db8::50/64 dev eth0   # without dev: the interface that has its subnet
      hosts:
        - {host: lb1, priority: 150}
        - {host: lb2, priority: 100}
      preempt: false                 # true: move back when lb1 is fit again
      preempt_delay: 30s
      sync_group: front              # stays on one host with the sets of this group
      spread: vips                   # prefers a host without another set of this label
      anti_affinity: db              # never on a host with another set of this label
      vrrp:                          # share it with Keepalived peers outside of the quorum
        vrid: 51
        version: 2
        priority: 100                # of whichever of our hosts holds the set
        interval: 1s
        password: secret             # and interface, peers, ipv6, nopreempt, plain_checksum, mode`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "file"); err != nil {
				return err
			}
			sets, err := readSetFile(file)
			if err != nil {
				return err
			}
			return t.apply(cmd.Context(), &pb.ApplyRequest{Sets: sets, DryRun: dryRun, Cause: cause})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "YAML file of VIP sets (-: standard input)")
	cmd.Flags().StringVar(&cause, "cause", "", "why, for the audit ring")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would change")
	return cmd
}

func readSetFile(name string) ([]*pb.VIPSet, error) {
	if name == "-" {
		return parseSetFile("standard input", os.Stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open VIP file: %w", err)
	}
	defer f.Close()
	return parseSetFile(name, f)
}

func (t *tool) apply(ctx context.Context, r *pb.ApplyRequest) error {
	reply, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.ApplyReply, error) { return op.Apply(ctx, r) })
	if err != nil {
		return err
	}
	var names []string
	for _, s := range r.Sets {
		names = append(names, s.Name)
	}
	return t.print(reply, func(w io.Writer) {
		for _, c := range reply.Changes {
			fmt.Fprintln(w, c)
		}
		if r.DryRun {
			fmt.Fprintln(t.talk, "nothing was changed (--dry-run)")
		}
	}, names)
}

func (t *tool) vipListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the VIP sets with their holders",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.repeat(cmd.Context(), func() error {
				return t.listSets(cmd.Context(), nil, func(w io.Writer, sets []*pb.VIPStatus) { columns(w, t.vipRows(sets)...) })
			})
		},
	}
}

func (t *tool) vipShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show VIP",
		Short:             "Show one VIP set in the form that `vip apply` reads",
		Args:              exactArgs("the name of one VIP set"),
		ValidArgsFunction: t.completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.listSets(cmd.Context(), args, func(w io.Writer, sets []*pb.VIPStatus) {
				for _, v := range sets {
					writeSetFile(w, []*pb.VIPSet{v.Set})
					fmt.Fprintf(w, "# %s, holder %s, epoch %s, revision %d\n", v.Verdict, dash(v.Holder), number(v.Epoch), v.Set.Revision)
				}
			})
		},
	}
}

func (t *tool) listSets(ctx context.Context, names []string, table func(io.Writer, []*pb.VIPStatus)) error {
	reply, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.ListSetsReply, error) {
		return op.ListSets(ctx, &pb.ListSetsRequest{Names: names})
	})
	if err != nil {
		return err
	}
	var found []string
	for _, v := range reply.Sets {
		found = append(found, v.Set.Name)
	}
	return t.print(reply, func(w io.Writer) { table(w, reply.Sets) }, found)
}

func (t *tool) vipDeleteCommand() *cobra.Command {
	var cause string
	cmd := &cobra.Command{
		Use:               "delete VIP",
		Short:             "Delete a VIP set; its holder takes the addresses down",
		Args:              exactArgs("the name of one VIP set"),
		ValidArgsFunction: t.completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := call(t, cmd.Context(), func(ctx context.Context, op pb.OperatorClient) (*pb.DeleteReply, error) {
				return op.Delete(ctx, &pb.DeleteRequest{Set: args[0], Cause: cause})
			})
			if err != nil {
				return err
			}
			return t.print(reply, func(w io.Writer) { fmt.Fprintf(w, "%s: deleted\n", args[0]) }, args)
		},
	}
	cmd.Flags().StringVar(&cause, "cause", "", "why, for the audit ring")
	return cmd
}

// awaitHolder waits until the set's holder is as wanted, telling what it waits
// for, and returns the status at that moment.
func (t *tool) awaitHolder(ctx context.Context, set string, done func(*pb.VIPStatus) bool) (*pb.VIPStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for {
		reply, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.ListSetsReply, error) {
			return op.ListSets(ctx, &pb.ListSetsRequest{Names: []string{set}})
		})
		if err != nil {
			return nil, err
		}
		v := reply.Sets[0]
		if done(v) {
			return v, nil
		}
		last = fmt.Sprintf("%s, holder %s", v.Verdict, dash(v.Holder))
		select {
		case <-ctx.Done():
			return nil, &codedError{code: exitTimeout, err: fmt.Errorf("%s is still %s after %s\n  `coordctl explain %s` tells why", set, last, t.timeout, set)}
		case <-tick.C:
		}
	}
}
