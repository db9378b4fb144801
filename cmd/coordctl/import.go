package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/keepalived/translate"
)

// importFlags are those of `coordctl import`.
type importFlags struct {
	apply, force bool
	out          string
}

func (t *tool) importCommand() *cobra.Command {
	var flags importFlags
	cmd := &cobra.Command{
		Use:   "import [HOST=]FILE...",
		Short: "Make VIP sets and checks of the keepalived.conf of all hosts",
		Long: `Make VIP sets and checks of keepalived.conf files. Name those of all hosts at once: they are compared, and a set has as
candidates the hosts that have its vrrp_instance. Nothing is changed without --apply.

  coordctl import lb1=lb1.conf lb2=lb2.conf
  coordctl import lb1=lb1.conf lb2=lb2.conf --out migration
  coordctl import lb1=lb1.conf lb2=lb2.conf --apply

Without HOST= a host is called as its router_id, else as the file, or the directory of a keepalived.conf. HOST must be the
name that the host has in its vipagent.yaml. What a file includes below /etc/keepalived is looked for beside the file first.

The sets are paused and their VRRP is off: the cluster leaves the addresses alone until ` + "`coordctl migrate`" + ` moves them. Their
VRRP priority is below that of every host, so that joining takes nothing over.
--out writes DIR/sets.yaml, for ` + "`coordctl vip apply -f`" + `, and DIR/HOST.checks.yaml, for the vipagent.yaml of each host.

Differences are errors (Keepalived or the migration fails on them), warnings or infos. With an error the exit code is 3, and --apply needs
--force. A file that Keepalived or vipagent could not use is exit code 2; one that cannot be read, 1.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(fmt.Errorf("%s takes the keepalived.conf of each host, as HOST=FILE or FILE", cmd.CommandPath()))
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"conf"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error { return t.importFiles(cmd.Context(), args, flags) },
	}
	cmd.Flags().BoolVar(&flags.apply, "apply", false, "create the VIP sets")
	cmd.Flags().BoolVar(&flags.force, "force", false, "with --apply: also in spite of errors among the differences")
	cmd.Flags().StringVar(&flags.out, "out", "", "directory to write the sets and checks to")
	_ = cmd.MarkFlagDirname("out")
	return cmd
}

// imported is what the files come to.
type imported struct {
	hosts       []translate.HostConfig
	differences []translate.Difference
	sets        []*pb.VIPSet
	checks      []translate.HostChecks
}

func (t *tool) importFiles(ctx context.Context, args []string, flags importFlags) error {
	if flags.force && !flags.apply {
		return usageError(errors.New("--force is for --apply"))
	}
	hosts, err := readHosts(args)
	if err != nil {
		return err
	}
	if err := t.refuseFatal(hosts); err != nil {
		return err
	}
	sets, bad := translate.Sets(hosts)
	im := &imported{hosts: hosts, differences: translate.Compare(hosts), checks: translate.Checks(hosts)}
	for _, s := range sets {
		im.sets = append(im.sets, setOf(s))
	}
	if flags.out != "" {
		if err := im.write(flags.out); err != nil {
			return err
		}
		fmt.Fprintf(t.talk, "wrote %s and %s\n", filepath.Join(flags.out, setsFile), plural(len(im.checks), "file")+" of checks")
	}
	if err := t.showImport(im); err != nil {
		return err
	}
	switch {
	case bad != nil:
		return usageError(bad)
	case translate.Severe(im.differences) && !flags.force:
		return &codedError{code: exitDegraded, err: t.severe(im, flags)}
	case flags.apply:
		return t.applyImport(ctx, im)
	}
	return nil
}

// severe is the error for differences that Keepalived or the migration fails on.
func (t *tool) severe(im *imported, flags importFlags) error {
	n := 0
	for _, d := range im.differences {
		if d.Severity == keepalived.Error {
			n++
		}
	}
	done := ""
	if flags.apply {
		done = "; nothing was created (--force does it all the same)"
	}
	return fmt.Errorf("%s among the differences%s", plural(n, "error"), done)
}

// refuseFatal refuses files of which an instance may be missing or half configured.
func (t *tool) refuseFatal(hosts []translate.HostConfig) error {
	var bad []string
	for _, h := range hosts {
		if !keepalived.Fatal(h.Diagnostics) {
			continue
		}
		bad = append(bad, h.File)
		for _, d := range h.Diagnostics {
			if d.Severity == keepalived.Error {
				fmt.Fprintln(t.talk, d)
			}
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return usageError(fmt.Errorf("%s cannot be used as it stands", strings.Join(bad, ", ")))
}

// applyImport creates the sets. It changes none that is there: an import again would
// pause a set that somebody relies on, and end its VRRP.
func (t *tool) applyImport(ctx context.Context, im *imported) error {
	if len(im.sets) == 0 {
		return errors.New("the files make no VIP set")
	}
	reply, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.ListSetsReply, error) {
		return op.ListSets(ctx, &pb.ListSetsRequest{})
	})
	if err != nil {
		return err
	}
	for _, v := range reply.GetSets() {
		name := v.GetSet().GetName()
		if slices.ContainsFunc(im.sets, func(s *pb.VIPSet) bool { return s.GetName() == name }) {
			return fmt.Errorf("there is a VIP set %s already: import creates sets and changes none\n  `coordctl vip delete %[1]s` if it is from an earlier import, or change it with `coordctl vip apply`", name)
		}
	}
	changes, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.ApplyReply, error) {
		return op.Apply(ctx, &pb.ApplyRequest{Sets: im.sets, Cause: "import"})
	})
	if err != nil {
		return err
	}
	for _, c := range changes.GetChanges() {
		fmt.Fprintln(t.talk, c)
	}
	fmt.Fprintf(t.talk, "put the checks into the vipagent.yaml of each host (--out writes them), then: coordctl migrate observe %s\n", im.sets[0].GetName())
	return nil
}

// setOf is the set as the API has it.
func setOf(s fsm.Set) *pb.VIPSet {
	out := &pb.VIPSet{Name: s.Name, Preempt: s.Preempt, PreemptDelayMs: s.PreemptDelay.Milliseconds(), SyncGroup: s.SyncGroup, Paused: s.Paused}
	for _, a := range s.Addresses {
		out.Addresses = append(out.Addresses, &pb.Address{Prefix: a.Prefix.String(), Interface: a.Interface})
	}
	for _, c := range s.Candidates {
		out.Candidates = append(out.Candidates, &pb.Candidate{Host: c.Host, Priority: int32(c.Priority)})
	}
	if v := s.VRRP; v != nil {
		out.Vrrp = &pb.VRRP{
			Vrid: uint32(v.ID), Version: uint32(v.Version), Priority: uint32(v.Priority), IntervalMs: v.Interval.Milliseconds(), Interface: v.Interface,
			Ipv6: v.IPv6, NoPreempt: v.NoPreempt, Password: v.Password, PlainChecksum: v.PlainChecksum, Mode: v.Mode,
		}
		for _, p := range v.Peers {
			out.Vrrp.Peers = append(out.Vrrp.Peers, p.String())
		}
	}
	return out
}

// setsFile is where --out has the sets.
const setsFile = "sets.yaml"

// write writes the sets and the checks into a directory. They may have passwords.
func (im *imported) write(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := writeWith(filepath.Join(dir, setsFile), func(w io.Writer) error { writeSetFile(w, im.sets); return nil }); err != nil {
		return err
	}
	for _, c := range im.checks {
		if err := writeWith(filepath.Join(dir, c.Host+".checks.yaml"), func(w io.Writer) error { return writeChecks(w, c.Checks) }); err != nil {
			return err
		}
	}
	return nil
}

func writeWith(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}
