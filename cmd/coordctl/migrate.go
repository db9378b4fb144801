package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm"
)

const (
	// migratePatience is how long a step may take to be seen done.
	migratePatience = 30 * time.Second
	// quorumWatch is how long the VIP is watched after VRRP has ended: a router that
	// was left running takes over after three intervals of silence.
	quorumWatch = 5 * time.Second
)

func (t *tool) migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Move a VIP from Keepalived to the quorum, step by step, and back",
		Long: `Move a VIP from Keepalived to the quorum, step by step, and back. Each step says what it has seen, and how
long nobody answered for the addresses meanwhile, as seen from this host.

  coordctl import lb1=lb1.conf lb2=lb2.conf --apply   VIP sets as the files have them, paused, VRRP off
  coordctl migrate observe web                         listen, and say what each host would do
  coordctl migrate join web                            take part, as a Backup router
  coordctl migrate takeover web                        become the Active router
  coordctl migrate quorum web --keepalived-stopped     end VRRP: the quorum alone decides
  coordctl migrate back web [--keepalived-started]     give the addresses back to Keepalived`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(t.migrateStatusCommand(), t.migrateObserveCommand(), t.migrateJoinCommand(), t.migrateTakeoverCommand(), t.migrateQuorumCommand(), t.migrateBackCommand())
	return cmd
}

func (t *tool) migrateStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "status VIP",
		Short:             "Show how far the migration of a VIP set is",
		Args:              exactArgs("the name of one VIP set"),
		ValidArgsFunction: t.completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.repeat(cmd.Context(), func() error {
				m, err := t.migration(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return t.print(m.reply, func(w io.Writer) { m.table(w) }, []string{m.set.GetName()})
			})
		},
	}
}

func (t *tool) migrateObserveCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "observe VIP",
		Short:             "Listen to the VRRP of a VIP set, and show what each host would do",
		Args:              exactArgs("the name of one VIP set"),
		ValidArgsFunction: t.completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := t.migration(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if m.active() {
				return fmt.Errorf("%s is the Active router for %s: to observe would give the addresses away; `coordctl migrate back %s` does that with a check", m.vip.GetHolder(), args[0], args[0])
			}
			return t.step(cmd.Context(), args[0], "observe", change{vrrp: toMode(fsm.VRRPObserve)}, (*migration).observed)
		},
	}
}

func (t *tool) migrateJoinCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "join VIP",
		Short: "Take part in the VRRP of a VIP set",
		Long: `Take part in the VRRP of a VIP set. Of the hosts of the quorum only the holder of the set speaks, with the priority
that the set has: below that of the Active router it becomes Backup and the addresses stay where they are.`,
		Args:              exactArgs("the name of one VIP set"),
		ValidArgsFunction: t.completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.step(cmd.Context(), args[0], "join", change{vrrp: toMode(fsm.VRRPJoin), resume: true}, (*migration).joined)
		},
	}
}

func (t *tool) migrateTakeoverCommand() *cobra.Command {
	var stopping bool
	cmd := &cobra.Command{
		Use:   "takeover VIP",
		Short: "Make the holder of a VIP set the Active router",
		Long: `Make the holder of a VIP set the Active router: its priority becomes one more than that of the router that is
Active now, which gives way as VRRP has it. With --stop it waits until you stop Keepalived on that host, whose last
advertisement has priority 0: the holder, at the highest priority by then, follows within milliseconds.`,
		Args:              exactArgs("the name of one VIP set"),
		ValidArgsFunction: t.completeSets,
		RunE:              func(cmd *cobra.Command, args []string) error { return t.takeover(cmd.Context(), args[0], stopping) },
	}
	cmd.Flags().BoolVar(&stopping, "stop", false, "wait until Keepalived is stopped on the Active host")
	return cmd
}

func (t *tool) takeover(ctx context.Context, set string, stopping bool) error {
	m, err := t.migration(ctx, set)
	if err != nil {
		return err
	}
	r := m.vip.GetRouter()
	switch {
	case m.set.GetVrrp().GetMode() != fsm.VRRPJoin || r == nil:
		return fmt.Errorf("no host of the quorum takes part in the VRRP of %s yet: `coordctl migrate join %s` comes before", set, set)
	case m.active():
		return t.step(ctx, set, "takeover", change{}, (*migration).tookOver)
	case stopping:
		return t.followStop(ctx, m)
	case m.set.GetPreempt():
		// The quorum would move the set to the better host as soon as the addresses have left
		// it, and Keepalived, still running there, would not hear the agent beside it.
		return fmt.Errorf("%s has preempt: the quorum may move it at once to a host where Keepalived still runs\n  stop Keepalived there instead: `coordctl migrate takeover %s --stop`, or set preempt: false for the migration", set, set)
	case r.GetPriority() >= fsm.MaxPriority:
		return fmt.Errorf("%s is Active with priority %d: there is none above it to take over with\n  stop Keepalived there instead: `coordctl migrate takeover %s --stop`", r.GetActive(), r.GetPriority(), set)
	case m.set.GetVrrp().GetNoPreempt():
		return fmt.Errorf("%s has nopreempt: it does not take over from a router that is Active\n  stop Keepalived there instead: `coordctl migrate takeover %s --stop`", set, set)
	}
	return t.step(ctx, set, "takeover", change{vrrp: func(v *pb.VRRP) { v.Priority = max(v.GetPriority(), r.GetPriority()+1) }}, (*migration).tookOver)
}

// followStop makes the holder the first to follow a router that stops, without
// taking over before. If nothing stops, the set is as it was: at that priority the
// holder would take over from a router that goes on.
func (t *tool) followStop(ctx context.Context, m *migration) error {
	set, priority, noPreempt := m.set.GetName(), m.set.GetVrrp().GetPriority(), m.set.GetVrrp().GetNoPreempt()
	fmt.Fprintf(t.talk, "stop Keepalived on %s within %v: systemctl stop keepalived\n", dash(m.vip.GetRouter().GetActive()), migratePatience)
	err := t.step(ctx, set, "takeover", change{vrrp: func(v *pb.VRRP) { v.Priority, v.NoPreempt = fsm.MaxPriority, true }}, (*migration).tookOver)
	// An interrupt ends the wait, not what has to be put right after it.
	return errors.Join(err, t.alter(context.WithoutCancel(ctx), set, change{vrrp: func(v *pb.VRRP) {
		if v.NoPreempt = noPreempt; err != nil {
			v.Priority = priority
		}
	}}))
}

func (t *tool) migrateQuorumCommand() *cobra.Command {
	var stopped bool
	cmd := &cobra.Command{
		Use:   "quorum VIP",
		Short: "End the VRRP of a VIP set: the quorum alone decides",
		Long: `End the VRRP of a VIP set: the quorum alone decides from now on. A Keepalived that was left running as Backup hears
nothing any more and takes the addresses too, so it must be stopped on every host before, and you say so
with --keepalived-stopped: a silent Backup cannot be seen from here.`,
		Args:              exactArgs("the name of one VIP set"),
		ValidArgsFunction: t.completeSets,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := t.migration(cmd.Context(), args[0])
			switch {
			case err != nil:
				return err
			case m.set.GetVrrp().GetMode() == fsm.VRRPOff:
				return fmt.Errorf("%s is not shared with VRRP routers: there is nothing to end", args[0])
			case !m.active():
				return fmt.Errorf("the holder of %s is not the Active router: `coordctl migrate takeover %s` comes before", args[0], args[0])
			case !stopped:
				return usageError(fmt.Errorf("stop Keepalived on every host of %s (systemctl disable --now keepalived), then say so: --keepalived-stopped", args[0]))
			}
			return t.step(cmd.Context(), args[0], "quorum", change{vrrp: toMode(fsm.VRRPOff), watch: quorumWatch}, (*migration).ended)
		},
	}
	cmd.Flags().BoolVar(&stopped, "keepalived-stopped", false, "Keepalived is stopped on all hosts")
	return cmd
}

func (t *tool) migrateBackCommand() *cobra.Command {
	var started bool
	cmd := &cobra.Command{
		Use:   "back VIP",
		Short: "Give the addresses of a VIP set back to Keepalived",
		Long: `Give the addresses of a VIP set back to Keepalived, in two steps: first the holder advertises again, so that
Keepalived can be started on its hosts and finds an Active router; then, with --keepalived-started, the holder goes down
to priority 1, so that Keepalived takes over while the addresses are still served here. One with nopreempt does not:
to that the holder gives way with priority 0. If no other router takes over, it takes the addresses back.`,
		Args:              exactArgs("the name of one VIP set"),
		ValidArgsFunction: t.completeSets,
		RunE:              func(cmd *cobra.Command, args []string) error { return t.back(cmd.Context(), args[0], started) },
	}
	cmd.Flags().BoolVar(&started, "keepalived-started", false, "Keepalived runs on its hosts again")
	return cmd
}

func (t *tool) back(ctx context.Context, set string, started bool) error {
	m, err := t.migration(ctx, set)
	if err != nil {
		return err
	}
	if m.set.GetVrrp().GetMode() == fsm.VRRPOff {
		if err := t.step(ctx, set, "back", change{vrrp: toMode(fsm.VRRPJoin)}, (*migration).tookOver); err != nil {
			return err
		}
	}
	if !started {
		fmt.Fprintf(t.talk, "start Keepalived on its hosts now (systemctl enable --now keepalived), on the holder last; then: coordctl migrate back %s --keepalived-started\n", set)
		return nil
	}
	within := preemptPatience(m.set.GetVrrp())
	if err = t.step(ctx, set, "back", change{vrrp: func(v *pb.VRRP) { v.Priority = 1 }, within: within}, (*migration).gaveWay); err == nil {
		return t.alter(ctx, set, change{vrrp: toMode(fsm.VRRPObserve)})
	}
	if ctx.Err() != nil {
		return err
	}
	fmt.Fprintln(t.talk, "no router takes over by its priority: giving way with priority 0")
	return t.giveWay(ctx, set, within)
}

// giveWay makes the holder give way with priority 0, and take the addresses back if
// nobody else takes them within a time, or before that the tool is interrupted.
func (t *tool) giveWay(ctx context.Context, set string, within time.Duration) error {
	err := t.step(ctx, set, "back", change{vrrp: toMode(fsm.VRRPObserve), within: within}, (*migration).gaveWay)
	if err == nil {
		return nil
	}
	if undo := t.alter(context.WithoutCancel(ctx), set, change{vrrp: toMode(fsm.VRRPJoin)}); undo != nil {
		return fmt.Errorf("%w; and the holder could not be told to take the addresses back: %w", err, undo)
	}
	return fmt.Errorf("%w\n  the holder takes the addresses back; is Keepalived running, with the same VRID, version and password?", err)
}

// preemptPatience is how long a router of higher priority may take to take over: its
// Active_Down_Interval, which is less than four intervals, and as much again.
func preemptPatience(v *pb.VRRP) time.Duration {
	return max(8*time.Duration(v.GetIntervalMs())*time.Millisecond, 5*time.Second)
}

// change is what a step alters.
type change struct {
	vrrp   func(*pb.VRRP) // nil: nothing is changed
	resume bool           // the set was paused
	within time.Duration  // until it is seen done; 0 = migratePatience
	watch  time.Duration  // how long the addresses are asked after that
}

// toMode changes the mode alone.
func toMode(mode string) func(*pb.VRRP) { return func(v *pb.VRRP) { v.Mode = mode } }

// step makes one change and waits until done says that it has worked, while the
// addresses are asked for all the time.
func (t *tool) step(ctx context.Context, set, name string, c change, done func(*migration) (string, bool)) error {
	m, err := t.migration(ctx, set)
	if err != nil {
		return err
	}
	var seen string
	answers, err := t.measured(ctx, m.addresses(), func(ctx context.Context) error {
		if c.vrrp != nil {
			if err := t.alter(ctx, set, c); err != nil {
				return err
			}
		}
		m, seen, err = t.await(ctx, set, cmp.Or(c.within, migratePatience), done)
		if err == nil && c.watch > 0 {
			err = sleep(ctx, c.watch)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", name, set, err)
	}
	report := stepReport{Set: set, Step: name, Seen: seen, Holder: m.vip.GetHolder(), Routers: m.routers, answers: answers}
	return t.printValue(report, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s\n", set, seen)
		m.table(w)
		answers.table(w)
	}, []string{set})
}

// stepReport is a step in JSON.
type stepReport struct {
	Set     string                `json:"set"`
	Step    string                `json:"step"`
	Seen    string                `json:"seen"`
	Holder  string                `json:"holder"`
	Routers map[string]*pb.Router `json:"routers"`
	answers
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// alter changes the VRRP of a set.
func (t *tool) alter(ctx context.Context, set string, c change) error {
	m, err := t.migration(ctx, set)
	if err != nil {
		return err
	}
	before := m.set.GetRevision()
	c.vrrp(m.set.Vrrp)
	reply, err := call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.ApplyReply, error) {
		return op.Apply(ctx, &pb.ApplyRequest{Sets: []*pb.VIPSet{m.set}, Cause: "migrate"})
	})
	if err != nil {
		return err
	}
	if !slices.Contains(reply.GetChanges(), set+": unchanged") {
		if err := t.awaitRevision(ctx, set, before); err != nil {
			return err
		}
	}
	if !c.resume || !m.set.GetPaused() {
		return nil
	}
	_, err = call(t, ctx, func(ctx context.Context, op pb.OperatorClient) (*pb.PauseReply, error) {
		return op.Pause(ctx, &pb.PauseRequest{Set: set})
	})
	return err
}

// awaitRevision waits until the coordinator that answers has seen a change of a set:
// what follows must not be decided, or changed, by what was before.
func (t *tool) awaitRevision(ctx context.Context, set string, before uint64) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	for {
		m, err := t.migration(ctx, set)
		if err == nil && m.set.GetRevision() > before {
			return nil
		}
		if sleep(ctx, 10*time.Millisecond) != nil {
			return fmt.Errorf("the coordinator that answers does not see the change: %w", ctx.Err())
		}
	}
}

// await asks until done says that a step has worked.
func (t *tool) await(ctx context.Context, set string, within time.Duration, done func(*migration) (string, bool)) (*migration, string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var why string
	for {
		m, err := t.migration(ctx, set)
		if err == nil {
			seen, ok := done(m)
			if ok {
				return m, seen, nil
			}
			why = seen
		}
		if sleep(ctx, 50*time.Millisecond) != nil {
			if err == nil || why != "" {
				err = fmt.Errorf("not seen done within %v: %s", within, why)
			}
			return nil, "", err
		}
	}
}
