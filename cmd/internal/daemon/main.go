package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// Exit codes of the daemons.
const (
	ExitOK    = 0 // stopped as told
	ExitError = 1 // could not start, or failed while running
	ExitUsage = 2 // wrong flag or configuration
)

// Process is what a daemon gets from its surroundings.
type Process struct {
	Logger *slog.Logger
	Notify *Notifier
	// Version names the build.
	Version string
}

// Run is a daemon's work: it blocks until ctx ends (nil) or it cannot go on.
type Run[C any] func(ctx context.Context, cfg C, p *Process) error

// Main reads the configuration, runs the daemon until SIGTERM, SIGINT or an
// error, and returns the exit code. args are without the program's name.
func Main[C any](f File[C], args []string, run Run[C]) int {
	return f.Execute(context.Background(), args, Streams{Out: os.Stdout, Err: os.Stderr}, run)
}

// Streams are where data (Out) and talk (Err) go.
type Streams struct {
	Out, Err io.Writer
}

// Execute is [Main] with its surroundings as arguments.
func (f File[C]) Execute(ctx context.Context, args []string, s Streams, run Run[C]) int {
	l := lineageOf(f.program)
	return l.exitCode(f.execute(ctx, args, s, service[C]{run: run, lineage: l}))
}

func (f File[C]) execute(ctx context.Context, args []string, s Streams, d service[C]) int {
	fs := pflag.NewFlagSet(f.program, pflag.ContinueOnError)
	fs.SetOutput(s.Err)
	fs.SortFlags = false
	path := fs.String("config", f.path, "configuration file")
	checkOnly := fs.Bool("check-config", false, `say "ok" or what is wrong with the configuration, and exit`)
	printConfig := fs.Bool("print-config", false, "print the configuration as it takes effect, keys hidden, and exit")
	printVersion := fs.Bool("version", false, "print the version and exit")
	overrides := f.overrideFlags(fs)
	fs.Usage = func() {
		fmt.Fprintf(s.Err, "usage: %s [flags]\n\nA flag named like a key of the configuration file overrides it.\n\n%s", f.program, fs.FlagUsages())
	}
	if err := fs.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return ExitOK
	} else if err != nil {
		fmt.Fprintf(s.Err, "%s: %v; try --help\n", f.program, err)
		return ExitUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(s.Err, "%s: unexpected argument %q; try --help\n", f.program, fs.Arg(0))
		return ExitUsage
	}
	if *printVersion {
		fmt.Fprintln(s.Out, f.program, Version())
		return ExitOK
	}
	var err error
	if d.cfg, d.warnings, err = f.Load(*path, *overrides...); err != nil {
		fmt.Fprintf(s.Err, "%s: cannot use the configuration\n%v\n", f.program, err)
		return ExitUsage
	}
	if *checkOnly || *printConfig {
		for _, w := range d.warnings {
			fmt.Fprintf(s.Err, "warning: %v\n", w)
		}
	}
	switch {
	case *printConfig:
		return f.print(d.cfg, s)
	case *checkOnly:
		fmt.Fprintln(s.Out, "ok")
		return ExitOK
	}
	SurviveClosedPipes()
	if f.guarded != nil && f.guarded(d.cfg) && !d.lineage.guarded {
		log := NewLogger(s.Err, logOf(&d.cfg)).With("program", f.program)
		var j *janitor
		if f.janitor != nil {
			j = &janitor{log: log, work: f.janitor(d.cfg)}
		}
		return guard(log, args, s, j)
	}
	return f.serve(ctx, d, s)
}

func (f File[C]) print(cfg C, s Streams) int {
	enc := yaml.NewEncoder(s.Out)
	enc.SetIndent(2)
	if err := enc.Encode(cfg); err != nil {
		fmt.Fprintf(s.Err, "%s: print configuration: %v\n", f.program, err)
		return ExitError
	}
	return ExitOK
}

// service is a daemon that is ready to run.
type service[C any] struct {
	cfg      C
	warnings []Warning
	run      Run[C]
	lineage  lineage
}

func (f File[C]) serve(ctx context.Context, d service[C], s Streams) int {
	log := NewLogger(s.Err, logOf(&d.cfg))
	p := &Process{Logger: log, Notify: NewNotifier(), Version: Version()}
	log.Info("starting", "program", f.program, "version", p.Version)
	for _, w := range d.warnings {
		log.Warn(w.Message, "key", w.Key)
	}
	group := NewGroup(ctx)
	listening := make(chan struct{})
	group.Go("signals", func(ctx context.Context) error {
		err := WaitSignal(ctx, log, func() { close(listening) })
		p.Notify.Stopping()
		return err
	})
	<-listening // nothing is done yet that a signal would have to undo
	d.lineage.takesSignals()
	group.Go(f.program, func(ctx context.Context) error {
		if err := d.run(ctx, d.cfg, p); err != nil {
			return err
		}
		return ErrStop
	})
	if err := group.Wait(); err != nil {
		log.Error("failed", "error", err)
		if isFinal(err) {
			return exitFinal
		}
		return ExitError
	}
	log.Info("stopped")
	return ExitOK
}

// logOf finds the log section of a configuration.
func logOf(cfg any) Log {
	switch c := cfg.(type) {
	case *Coordinator:
		return c.Log
	case *Agent:
		return c.Log
	case *Broker:
		return c.Log
	}
	return Log{}
}
