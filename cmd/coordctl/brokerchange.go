package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	pb "holdfast/coordinator/api/holdfastpb"
)

// groupFlags are the settings of a group as flags. Those that are not given stay as they
// are.
type groupFlags struct {
	mode, policy string
	min          int32
	readLocal    bool
}

func (f *groupFlags) add(cmd *cobra.Command) {
	cmd.Flags().Int32Var(&f.min, "min-in-sync", 0, "mode sync: nothing is acknowledged while fewer members are in sync")
	cmd.Flags().StringVar(&f.policy, "policy", "", "who may become master: in-sync, unclean (loses what it lacks), never (the last master alone)")
	cmd.Flags().BoolVar(&f.readLocal, "read-local", false, "readers see records that are not confirmed yet")
	_ = cmd.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions([]string{"in-sync", "unclean", "never"}, cobra.ShellCompDirectiveNoFileComp))
}

func (t *tool) brokerPutCommand() *cobra.Command {
	var flags groupFlags
	var members []string
	var cause string
	cmd := &cobra.Command{
		Use:   "put GROUP --member BROKER[:PRIORITY] ...",
		Short: "Create a broker group, or change its members",
		Long: `Create a broker group, or change its members, their priorities and the settings of its next grant. What is not
given stays as it is; a new group is sync, with policy in-sync and min-in-sync 2 (1 with a single member).

All members of a new group are in sync. A member that is added later is not: it becomes so when it has caught up.
The master cannot be removed (coordctl broker switchover), nor the last member that is in sync.

  coordctl broker put orders --member b1:150 --member b2 --member b3 --min-in-sync 2`,
		Args:              exactArgs("the name of one broker group"),
		ValidArgsFunction: t.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			r := &pb.PutGroupRequest{Group: args[0], Cause: cause}
			for _, text := range members {
				m, err := parseMember(text)
				if err != nil {
					return usageError(err)
				}
				r.Members = append(r.Members, m)
			}
			return t.putGroup(cmd, r, flags)
		},
	}
	cmd.Flags().StringArrayVar(&members, "member", nil, "a broker's name, with its priority as BROKER:PRIORITY (100)")
	cmd.Flags().StringVar(&flags.mode, "mode", "", "when a write is acknowledged: sync, async")
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"sync", "async"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("member", t.completeBrokers)
	cmd.Flags().StringVar(&cause, "cause", "", "why, for the audit ring")
	flags.add(cmd)
	return cmd
}

func parseMember(text string) (*pb.Member, error) {
	name, priority, given := strings.Cut(text, ":")
	m := &pb.Member{Id: name, Priority: 100}
	if given {
		n, err := strconv.ParseInt(priority, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("--member %q: want BROKER or BROKER:PRIORITY", text)
		}
		m.Priority = int32(n)
	}
	return m, nil
}

func (t *tool) putGroup(cmd *cobra.Command, r *pb.PutGroupRequest, flags groupFlags) error {
	reply, err := t.listGroups(cmd.Context())
	if err != nil {
		return err
	}
	r.Settings = &pb.GroupSettings{Mode: "sync", MinInSync: min(2, int32(len(r.Members))), Policy: "in-sync"}
	for _, s := range reply.Groups {
		if s.Group.Name == r.Group {
			if r.Settings = s.Group.Next; len(r.Members) == 0 {
				r.Members = s.Group.Members
			}
		}
	}
	if len(r.Members) == 0 {
		return usageError(fmt.Errorf("%s needs --member for a new group", cmd.CommandPath()))
	}
	if cmd.Flags().Changed("mode") {
		r.Settings.Mode = flags.mode
	}
	if cmd.Flags().Changed("min-in-sync") {
		r.Settings.MinInSync = flags.min
	}
	if cmd.Flags().Changed("policy") {
		r.Settings.Policy = flags.policy
	}
	if cmd.Flags().Changed("read-local") {
		r.Settings.ReadLocal = flags.readLocal
	}
	put, err := call(t, cmd.Context(), func(ctx context.Context, op pb.OperatorClient) (*pb.PutGroupReply, error) { return op.PutGroup(ctx, r) })
	if err != nil {
		return err
	}
	return t.print(put, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", r.Group, put.Change) }, []string{r.Group})
}

func (t *tool) brokerModeCommand() *cobra.Command {
	var flags groupFlags
	var cause string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "mode GROUP [sync|async]",
		Short: "Change when writes are acknowledged, and who may become master",
		Long: `Change a group's mode, min-in-sync, policy and what readers see. The change takes effect with a new grant: the master
is asked to release its grant, and gets the next one in the same moment.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError(fmt.Errorf("%s takes the name of one broker group, and a mode if it is to change", cmd.CommandPath()))
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return []string{"sync", "async"}, cobra.ShellCompDirectiveNoFileComp
			}
			return t.completeGroups(cmd, args, part)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r := &pb.ConfigureGroupRequest{Group: args[0], Cause: cause}
			if len(args) == 2 {
				r.Mode = proto.String(args[1])
			}
			if cmd.Flags().Changed("min-in-sync") {
				r.MinInSync = proto.Int32(flags.min)
			}
			if cmd.Flags().Changed("policy") {
				r.Policy = proto.String(flags.policy)
			}
			if cmd.Flags().Changed("read-local") {
				r.ReadLocal = proto.Bool(flags.readLocal)
			}
			if r.Mode == nil && r.MinInSync == nil && r.Policy == nil && r.ReadLocal == nil {
				return usageError(fmt.Errorf("%s: say what is to change; `coordctl broker show %s` shows what holds", cmd.CommandPath(), args[0]))
			}
			return t.configureGroup(cmd.Context(), r, noWait)
		},
	}
	cmd.Flags().StringVar(&cause, "cause", "", "why, for the audit ring")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it has taken effect")
	flags.add(cmd)
	return cmd
}

func (t *tool) configureGroup(ctx context.Context, r *pb.ConfigureGroupRequest, noWait bool) error {
	begun := time.Now()
	reply, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.ConfigureGroupReply, error) {
		return op.ConfigureGroup(ctx, r)
	})
	if err != nil {
		return err
	}
	next := settingsText(reply.Next)
	if noWait {
		return t.print(reply, func(w io.Writer) { fmt.Fprintf(w, "%s: %s, with the next grant\n", r.Group, next) }, []string{r.Group})
	}
	s, err := t.awaitGroup(ctx, r.Group, func(s *pb.GroupStatus) bool {
		if s == nil {
			return true
		}
		known := settingsText(s.Group.Next) == next // a follower may be behind
		return known && (s.Group.Master == "" || s.Group.Wanted == "" && settingsText(s.Group.Settings) == next)
	})
	if err != nil {
		return err
	}
	took := time.Since(begun).Round(time.Millisecond)
	return t.print(reply, func(w io.Writer) {
		if s.GetGroup().GetMaster() == "" {
			fmt.Fprintf(w, "%s: %s, with the next grant (it has no master now)\n", r.Group, next)
			return
		}
		fmt.Fprintf(w, "%s: %s, in %s; master %s, epoch %d\n", r.Group, next, took, s.Group.Master, s.Group.Epoch)
	}, []string{r.Group})
}

func (t *tool) brokerSwitchoverCommand() *cobra.Command {
	var r pb.SwitchoverRequest
	var noWait bool
	cmd := &cobra.Command{
		Use:   "switchover GROUP",
		Short: "Make another broker the master of a group",
		Long: `Make another member of a group its master: the present one stops and releases its grant, and the other gets the next
one in the same moment. It must be in sync; without --to it is the best of the others.

A group without a master is given away at once, against its policy if need be. With --unclean also to a member that
is not in sync: what that one lacks is lost.`,
		Args:              exactArgs("the name of one broker group"),
		ValidArgsFunction: t.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.Group = args[0]; r.Unclean && r.To == "" {
				return usageError(fmt.Errorf("%s: --unclean needs --to: say whose log is to be the group's", cmd.CommandPath()))
			}
			return t.switchover(cmd.Context(), &r, noWait)
		},
	}
	cmd.Flags().StringVar(&r.To, "to", "", "broker that is to be master (the best of the others)")
	cmd.Flags().BoolVar(&r.Unclean, "unclean", false, "also a member that is not in sync, if the group has no master")
	cmd.Flags().StringVar(&r.Cause, "cause", "", "why, for the audit ring")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is master")
	_ = cmd.RegisterFlagCompletionFunc("to", t.completeBrokers)
	return cmd
}

func (t *tool) switchover(ctx context.Context, r *pb.SwitchoverRequest, noWait bool) error {
	begun := time.Now()
	reply, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.SwitchoverReply, error) {
		return op.Switchover(ctx, r)
	})
	if err != nil {
		return err
	}
	if noWait {
		return t.print(reply, func(w io.Writer) {
			fmt.Fprintf(w, "%s: asked, from %s to %s\n", r.Group, dash(reply.From), reply.To)
		}, []string{r.Group})
	}
	s, err := t.awaitGroup(ctx, r.Group, func(s *pb.GroupStatus) bool {
		return s.GetGroup().GetMaster() == reply.To && s.Group.Wanted == ""
	})
	if err != nil {
		return err
	}
	took := time.Since(begun).Round(time.Millisecond)
	return t.print(s, func(w io.Writer) {
		if reply.From == reply.To {
			fmt.Fprintf(w, "%s: %s was its master already, epoch %d\n", r.Group, reply.To, s.Group.Epoch)
			return
		}
		fmt.Fprintf(w, "%s: master %s in place of %s, in %s, epoch %d\n", r.Group, reply.To, dash(reply.From), took, s.Group.Epoch)
	}, []string{r.Group})
}

func (t *tool) brokerDeleteCommand() *cobra.Command {
	var cause string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "delete GROUP",
		Short: "Delete a broker group; its members keep their logs on disk",
		Long: `Delete a broker group. One that has a master is gone when that has stopped and released it. The members' logs stay on
their disks, and a new group of this name does not use them.`,
		Args:              exactArgs("the name of one broker group"),
		ValidArgsFunction: t.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := call(t, cmd.Context(), func(ctx context.Context, op pb.OperatorClient) (*pb.DeleteGroupReply, error) {
				return op.DeleteGroup(ctx, &pb.DeleteGroupRequest{Group: args[0], Cause: cause})
			})
			if err != nil {
				return err
			}
			if !noWait {
				if _, err := t.awaitGroup(cmd.Context(), args[0], func(s *pb.GroupStatus) bool { return s == nil }); err != nil {
					return err
				}
				reply.Master = ""
			}
			return t.print(reply, func(w io.Writer) {
				if reply.Master != "" {
					fmt.Fprintf(w, "%s: goes when %s has released it\n", args[0], reply.Master)
					return
				}
				fmt.Fprintf(w, "%s: deleted\n", args[0])
			}, args)
		},
	}
	cmd.Flags().StringVar(&cause, "cause", "", "why, for the audit ring")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is gone")
	return cmd
}
