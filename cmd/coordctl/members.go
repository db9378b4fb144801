package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	pb "holdfast/coordinator/api/holdfastpb"
)

func (t *tool) membersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "members",
		Short: "Show the coordinators and who sees whom, or remove one",
		Long: `Show the coordinators of the quorum: what each says of itself, and whom it follows.

A new coordinator joins by itself: start it with the seeds of the others. One that is gone for good is taken
out with "members remove", one at a time.`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.repeat(cmd.Context(), func() error { return t.members(cmd.Context()) })
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:               "remove COORDINATOR",
		Short:             "Take a coordinator out of the quorum",
		Args:              exactArgs("the name of one coordinator"),
		ValidArgsFunction: t.completeCoordinators,
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := call(t, cmd.Context(), func(ctx context.Context, op pb.OperatorClient) (*pb.RemoveMemberReply, error) {
				return op.RemoveMember(ctx, &pb.RemoveMemberRequest{Name: args[0]})
			})
			if err != nil {
				return err
			}
			return t.print(reply, func(w io.Writer) { fmt.Fprintf(w, "%s: removed\n", args[0]) }, args)
		},
	})
	return cmd
}

func (t *tool) members(ctx context.Context) error {
	s, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.StatusReply, error) {
		return op.Status(ctx, &pb.StatusRequest{})
	})
	if err != nil {
		return err
	}
	reply := &pb.StatusReply{
		Schema: s.Schema, AnsweredBy: s.AnsweredBy, Leader: s.Leader, Term: s.Term, Quorum: s.Quorum,
		AppliedIndex: s.AppliedIndex, Coordinators: s.Coordinators, Configuration: s.Configuration, AtUnixNs: s.AtUnixNs,
	}
	var names []string
	for _, c := range s.Coordinators {
		names = append(names, c.Name)
	}
	return t.print(reply, func(w io.Writer) {
		rows := []string{row("NAME", "VOTER", "ROLE", "FOLLOWS", "APPLIED", "TRAILS LEADER BY", "LAST CONTACT", "RAFT", "API", "GOSSIP", "VERSION")}
		for i, c := range s.Coordinators {
			m := s.Configuration.Members[i]
			rows = append(rows, row(c.Name, fmt.Sprint(c.Voter), t.roleText(c), dash(c.Follows), fmt.Sprint(c.AppliedIndex), trails(c), contact(c),
				m.RaftAddress, dash(c.ApiAddress), dash(m.GossipAddress), dash(c.Version)))
		}
		columns(w, rows...)
		fmt.Fprintf(t.talk, "seen by %s, configuration %d\n", s.AnsweredBy, s.Configuration.Index)
	}, names)
}

func (t *tool) leaderCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "leader",
		Short: "Hand the lead of the quorum to another coordinator",
		Args:  exactArgs(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var to string
	transfer := &cobra.Command{
		Use:   "transfer",
		Short: "Hand the lead over; no holder loses its lease by it",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := call(t, cmd.Context(), func(ctx context.Context, op pb.OperatorClient) (*pb.TransferLeadershipReply, error) {
				return op.TransferLeadership(ctx, &pb.TransferLeadershipRequest{To: to})
			})
			if err != nil {
				return err
			}
			return t.print(reply, func(w io.Writer) { fmt.Fprintf(w, "%s leads now\n", reply.Leader) }, []string{reply.Leader})
		},
	}
	transfer.Flags().StringVar(&to, "to", "", "coordinator to lead (default: the best follower)")
	_ = transfer.RegisterFlagCompletionFunc("to", t.completeCoordinators)
	cmd.AddCommand(transfer)
	return cmd
}

func (t *tool) snapshotCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save the replicated state to a file, or restore sets from one",
		Args:  exactArgs(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var yes bool
	restore := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put VIP sets, drains and the pause switch back from a saved file",
		Long: `Put VIP sets, drains and the pause switch back from a saved file; they replace what there is now.
Sessions and grants are never restored: a copy cannot know who holds what now. So this is safe on a running
cluster: a set whose addresses change is moved by the ordinary rules.

After the loss of a majority, recover the coordinators first (docs/operations.md). Restore into a new cluster
only when the old coordinators have been stopped for longer than one TTL.`,
		Args: exactArgs("one file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return usageError(fmt.Errorf("this replaces all VIP sets; say --yes if that is meant"))
			}
			return t.restoreSnapshot(cmd.Context(), args[0])
		},
	}
	restore.Flags().BoolVar(&yes, "yes", false, "replace all VIP sets")
	cmd.AddCommand(&cobra.Command{
		Use:   "save FILE",
		Short: "Save a checksummed copy of the replicated state (-: standard output)",
		Args:  exactArgs("one file"),
		RunE:  func(cmd *cobra.Command, args []string) error { return t.saveSnapshot(cmd.Context(), args[0]) },
	}, restore)
	return cmd
}

func (t *tool) saveSnapshot(ctx context.Context, file string) error {
	data, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) ([]byte, error) {
		stream, err := op.SaveSnapshot(ctx, &pb.SaveSnapshotRequest{})
		if err != nil {
			return nil, err
		}
		var buf bytes.Buffer
		for {
			part, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return buf.Bytes(), nil
			}
			if err != nil {
				return nil, err
			}
			buf.Write(part.Data)
		}
	})
	if err != nil {
		return err
	}
	if file == "-" {
		_, err := t.out.Write(data)
		return err
	}
	if err := writeWhole(file, data); err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	fmt.Fprintf(t.talk, "%s: %d bytes saved\n", file, len(data))
	return nil
}

// writeWhole writes a file that is either the old one or the whole new one.
func writeWhole(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".coordctl-*") // created 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails when it was renamed, as it should be
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// snapshotPart is how much of a snapshot one message carries.
const snapshotPart = 256 << 10

func (t *tool) restoreSnapshot(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	reply, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.RestoreSnapshotReply, error) {
		stream, err := op.RestoreSnapshot(ctx)
		if err != nil {
			return nil, err
		}
		for rest := data; len(rest) > 0; {
			n := min(snapshotPart, len(rest))
			if err := stream.Send(&pb.SnapshotChunk{Data: rest[:n]}); err != nil {
				break // CloseAndRecv tells why
			}
			rest = rest[n:]
		}
		return stream.CloseAndRecv()
	})
	if err != nil {
		return fmt.Errorf("restore %s: %s", file, explainError(err))
	}
	return t.print(reply, func(w io.Writer) {
		for _, c := range reply.Changes {
			fmt.Fprintln(w, c)
		}
		fmt.Fprintf(t.talk, "restored at index %d\n", reply.Index)
	}, nil)
}

func (t *tool) keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen",
		Short: "Make a gossip key for coordinator.yaml and vipagent.yaml",
		Args:  exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			var key [32]byte
			if _, err := rand.Read(key[:]); err != nil {
				return fmt.Errorf("make key: %w", err)
			}
			fmt.Fprintln(t.out, base64.StdEncoding.EncodeToString(key[:]))
			return nil
		},
	}
}

func (t *tool) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			version := "(unknown)"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
			}
			fmt.Fprintln(t.out, "coordctl", version)
			return nil
		},
	}
}

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What coordctl's exit codes mean",
		Long: `0    all is well, or the change was made
1    an error; standard error says which
2    the command line or a file is wrong; nothing was sent
3    degraded: the answer is there, but something needs attention
4    no quorum, or no coordinator answers; nothing can be changed
124  no answer in time; a change may still be committed later`,
	}
}
