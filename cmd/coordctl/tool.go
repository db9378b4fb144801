package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"holdfast/cmd/internal/daemon"
	"holdfast/coordinator/api/dial"
	pb "holdfast/coordinator/api/holdfastpb"
)

// defaultServer is where coordctl looks when nothing says otherwise.
const defaultServer = "127.0.0.1:7952"

// formats are the values of -o.
var formats = []string{"table", "wide", "json", "yaml", "name"}

// tool is one run of coordctl: its flags and its connection.
type tool struct {
	out, talk io.Writer // data; talk

	servers string
	format  string
	timeout time.Duration
	watch   time.Duration
	noColor bool

	watching bool
	conn     *grpc.ClientConn
	server   string // the coordinator that conn reaches
}

func newTool(out, talk io.Writer) *tool { return &tool{out: out, talk: talk} }

func (t *tool) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "coordctl",
		Short: "Show and move what Holdfast holds",
		Long: `coordctl shows who holds which virtual IP and which broker is master, and why, and moves them.

It talks to any one coordinator: --server, else $HOLDFAST_SERVER, else those that the agent on this host knows
(` + daemon.DefaultServers + `), else ` + defaultServer + `. Several addresses, separated by commas, are tried at once. Data goes to stdout, talk to stderr.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(formats, t.format) {
				return usageError(fmt.Errorf("--output %q: want one of %s", t.format, strings.Join(formats, ", ")))
			}
			if t.watch > 0 && t.watch < 100*time.Millisecond {
				return usageError(fmt.Errorf("--watch %s: at least 100ms", t.watch))
			}
			return nil
		},
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		hint := "`coordctl --help` shows what there is"
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "did you mean " + strings.Join(near, " or ") + "?"
		}
		return usageError(fmt.Errorf("unknown command %q; %s", args[0], hint))
	}
	root.SuggestionsMinimumDistance = 2
	root.SetOut(t.out)
	root.SetErr(t.talk)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(fmt.Errorf("%w\n  `%s --help` shows what there is", err, cmd.CommandPath()))
	})
	f := root.PersistentFlags()
	f.StringVarP(&t.servers, "server", "s", os.Getenv("HOLDFAST_SERVER"), "API address of a coordinator, or several separated by commas ($HOLDFAST_SERVER)")
	f.StringVarP(&t.format, "output", "o", "table", "output format: "+strings.Join(formats, ", "))
	f.DurationVar(&t.timeout, "timeout", 5*time.Second, "how long to wait for an answer")
	f.DurationVarP(&t.watch, "watch", "w", 0, "show again at this interval (--watch alone: 1s)")
	f.Lookup("watch").NoOptDefVal = "1s"
	f.BoolVar(&t.noColor, "no-color", false, "no colours (also NO_COLOR)")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(
		t.statusCommand(), t.explainCommand(), t.vipCommand(), t.brokerCommand(), t.topicCommand(), t.moveCommand(), t.drainCommand(), t.undrainCommand(),
		t.pauseCommand(), t.resumeCommand(), t.membersCommand(), t.eventsCommand(), t.leaderCommand(), t.snapshotCommand(), t.drillCommand(), t.importCommand(), t.migrateCommand(), t.probeCommand(),
		t.keygenCommand(), t.versionCommand(), exitCodesTopic(),
	)
	return root
}

func usageError(err error) error { return &codedError{code: exitUsage, err: err} }

// exactArgs is cobra.ExactArgs with the usage line in the error.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usageError(fmt.Errorf("%s takes %s", cmd.CommandPath(), strings.Join(names, " and ")))
		}
		return nil
	}
}

// required is the error for a flag that must be given, or nil if it was.
func required(cmd *cobra.Command, flag string) error {
	if cmd.Flags().Changed(flag) {
		return nil
	}
	return usageError(fmt.Errorf("%s needs --%s: %s", cmd.CommandPath(), flag, cmd.Flags().Lookup(flag).Usage))
}

func (t *tool) close() {
	if t.conn != nil {
		t.conn.Close()
	}
}

// addresses lists the servers to try.
func (t *tool) addresses() []string {
	var list []string
	for _, s := range strings.Split(t.servers, ",") {
		if s = strings.TrimSpace(s); s != "" {
			if !strings.Contains(s, ":") {
				s += ":7952"
			}
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		list = daemon.ReadServers(daemon.DefaultServers)
	}
	if len(list) == 0 {
		list = []string{defaultServer}
	}
	return list
}

// connect finds a coordinator that answers; the first one wins.
func (t *tool) connect(ctx context.Context) (pb.OperatorClient, error) {
	if t.conn != nil {
		return pb.NewOperatorClient(t.conn), nil
	}
	addresses := t.addresses()
	type reached struct {
		conn    *grpc.ClientConn
		address string
		err     error
	}
	results := make(chan reached, len(addresses))
	ctx, cancel := context.WithTimeout(ctx, min(t.timeout, 2*time.Second))
	defer cancel()
	for _, address := range addresses {
		go func() {
			conn, err := dial.New(address)
			if err == nil {
				_, err = pb.NewPeersClient(conn).Identity(ctx, &pb.IdentityRequest{}, grpc.WaitForReady(true))
			}
			results <- reached{conn, address, err}
		}()
	}
	var failures []error
	for range addresses {
		r := <-results
		if r.err == nil {
			t.conn, t.server = r.conn, r.address
			return pb.NewOperatorClient(r.conn), nil
		}
		failures = append(failures, fmt.Errorf("%s: no answer", r.address))
	}
	return nil, &codedError{code: exitNoQuorum, err: fmt.Errorf("no coordinator answers: %w\n  give the address of a running one: --server HOST:7952, or $HOLDFAST_SERVER", errors.Join(failures...))}
}

// call runs one question or change against a coordinator, within the timeout.
func call[R any](t *tool, ctx context.Context, f func(context.Context, pb.OperatorClient) (R, error)) (R, error) {
	var zero R
	op, err := t.connect(ctx)
	if err != nil {
		return zero, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	return f(dial.WithActor(ctx), op)
}

// repeat shows once, or with --watch again and again until interrupted.
func (t *tool) repeat(ctx context.Context, show func() error) error {
	if t.watch == 0 {
		return show()
	}
	t.watching = true
	tick := time.NewTicker(t.watch)
	defer tick.Stop()
	for {
		if t.onTerminal() {
			fmt.Fprint(t.out, "\x1b[H\x1b[2J")
		}
		if err := show(); err != nil {
			var coded *codedError
			if !errors.As(err, &coded) || coded.err != nil {
				fmt.Fprintln(t.talk, "coordctl:", explainError(err))
				t.close()
				t.conn = nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
