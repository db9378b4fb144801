package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/daemon"
	"holdfast/coordinator/lease"
	"holdfast/vipagent"
	"holdfast/vipagent/linux"
)

// fenceCommand is "vipagent fence": what the kernel holds, with or without an
// agent.
func fenceCommand(args []string, out, talk io.Writer) int {
	root := &cobra.Command{Use: "vipagent", SilenceUsage: true, SilenceErrors: true}
	fence := &cobra.Command{Use: "fence", Short: "what the kernel holds of the fence in this network namespace"}
	root.AddCommand(fence)
	dir := fence.PersistentFlags().String("bpf-dir", linux.FenceDir, "where the eBPF fence is pinned (bpf_dir of vipagent.yaml)")
	fence.AddCommand(fenceShow(dir), fenceRemove(dir))
	root.SetArgs(append([]string{"fence"}, args...))
	root.SetOut(out)
	root.SetErr(talk)
	root.CompletionOptions.DisableDefaultCmd = true
	if err := root.Execute(); err != nil {
		fmt.Fprintf(talk, "vipagent fence: %v\n", err)
		if errors.Is(err, linux.ErrNoFence) || errors.Is(err, errStillHeld) || errors.Is(err, vipagent.ErrLocked) {
			return daemon.ExitError
		}
		return daemon.ExitUsage
	}
	return daemon.ExitOK
}

func fenceShow(dir *string) *cobra.Command {
	var format string
	show := &cobra.Command{
		Use:   "show",
		Short: "print deadlines, guarded addresses and how many packets were refused",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := linux.Open(linux.Config{})
			if err != nil {
				return err
			}
			defer k.Close()
			t, err := showFence(k, *dir)
			if err != nil {
				return err
			}
			switch format {
			case "json":
				return json.NewEncoder(cmd.OutOrStdout()).Encode(t)
			case "text":
				return printFence(cmd.OutOrStdout(), t, linux.Boottime())
			}
			return fmt.Errorf("output format %q, must be text or json", format)
		},
	}
	show.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return show
}

// showFence reads whichever fence is there.
func showFence(k *linux.Kernel, dir string) (linux.FenceTable, error) {
	t, err := linux.ShowFence(k, dir)
	if !errors.Is(err, linux.ErrNoFence) {
		return t, err
	}
	if t, nftErr := linux.ShowNFT(); nftErr == nil || !errors.Is(nftErr, linux.ErrNoFence) {
		return t, nftErr
	}
	return t, err
}

// printFence writes the table for a person; now is the boot clock.
func printFence(w io.Writer, t linux.FenceTable, now lease.Time) error {
	fmt.Fprintf(w, "%s fence on %s\n", t.Kind, strings.Join(t.Interfaces, ", "))
	tab := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	left := make(map[uint64]string)
	for _, s := range t.Sessions {
		left[s.Session] = remaining(s.Deadline, now)
		fmt.Fprintf(tab, "session %d\t%s\n", s.Session, left[s.Session])
	}
	if len(t.Addresses) > 0 {
		fmt.Fprintln(tab, "\nADDRESS\tEPOCH\tSESSION\tPASSES\tREFUSED IN\tREFUSED OUT")
	}
	for _, a := range t.Addresses {
		session, passes := fmt.Sprint(a.Session), "guarded: never"
		if a.Open {
			passes = left[a.Session]
			if passes == "" {
				passes = "no: its session has ended"
			}
		}
		if a.Until != 0 {
			passes = "down; guarded " + remaining(a.Until, now)
		}
		if a.Also != 0 {
			session += fmt.Sprintf(" and %d", a.Also)
			passes += "; and " + left[a.Also]
		}
		fmt.Fprintf(tab, "%s\t%d\t%s\t%s\t%d\t%d\n", a.Address, a.Epoch, session, passes, a.RefusedIn, a.RefusedOut)
	}
	return tab.Flush()
}

func remaining(deadline, now lease.Time) string {
	switch left := deadline.Sub(now); {
	case deadline == 0:
		return "closed"
	case left <= 0:
		return fmt.Sprintf("deadline passed %v ago", (-left).Round(time.Millisecond))
	default:
		return fmt.Sprintf("for another %v", left.Round(time.Millisecond))
	}
}

// errStillHeld: removing the fence would open what it guards.
var errStillHeld = errors.New("addresses of ours are still up")

func fenceRemove(dir *string) *cobra.Command {
	var force bool
	var stateDir string
	remove := &cobra.Command{
		Use:   "remove",
		Short: "take the fence out of the kernel",
		Long:  "Take the fence out of the kernel. Stop the agent first: while it runs, or an address of ours is up, this is refused.",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			release, err := vipagent.Exclude(stateDir)
			if err == nil {
				defer release()
			} else if !force || !errors.Is(err, vipagent.ErrLocked) {
				return fmt.Errorf("fence not removed: %w", err)
			}
			k, err := linux.Open(linux.Config{})
			if err != nil {
				return err
			}
			defer k.Close()
			up, err := k.Ours()
			if err != nil {
				return err
			}
			if len(up) > 0 && !force {
				return fmt.Errorf("%w: %v (stop the agent, which takes them down; --force opens the fence all the same)", errStillHeld, up)
			}
			return errors.Join(linux.RemoveFence(k, *dir), linux.RemoveNFT())
		},
	}
	remove.Flags().BoolVar(&force, "force", false, "even while an agent runs, which puts it back, or addresses of ours are up")
	remove.Flags().StringVar(&stateDir, "state-dir", "/run/holdfast", "of the agent (state_dir of vipagent.yaml)")
	return remove
}
