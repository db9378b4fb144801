package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"holdfast/brokerd/commitlog"
	"holdfast/cmd/internal/daemon"
)

// recoverCommand reads a whole log, says what of it is damaged, and, if it is told to, cuts
// it off there. The broker must not run.
func recoverCommand(args []string, out, errOut io.Writer) int {
	fs := pflag.NewFlagSet("brokerd recover", pflag.ContinueOnError)
	fs.SetOutput(errOut)
	dir := fs.String("data-dir", "/var/lib/holdfast/broker", "the broker's data directory")
	cut := fs.Bool("cut", false, "cut the log off where it is damaged; what is behind it is kept in files beside the log")
	fs.Usage = func() {
		fmt.Fprintf(errOut, `usage: brokerd recover [flags]

Reads every record of a broker's log and says where it is damaged. The broker must
not run. A replica with a damaged log fetches what it lacks from another by itself:
--cut is for the last one that is left.

%s`, fs.FlagUsages())
	}
	if err := fs.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return daemon.ExitOK
	} else if err != nil || fs.NArg() > 0 {
		fmt.Fprintf(errOut, "brokerd recover: wrong arguments (%v); try --help\n", err)
		return daemon.ExitUsage
	}
	if err := recoverLog(*dir, *cut, out, errOut); err != nil {
		fmt.Fprintf(errOut, "brokerd recover: %v\n", err)
		return daemon.ExitError
	}
	return daemon.ExitOK
}

func recoverLog(path string, cut bool, out, errOut io.Writer) (err error) {
	dir, err := commitlog.OpenDir(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	log, found, err := commitlog.Open(dir, commitlog.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	if t := found.Torn; t.To > t.From {
		fmt.Fprintf(out, "torn end, never acknowledged: offsets %d to %d, kept in %s\n", t.From, t.To, t.File)
	}
	began, shown := time.Now(), time.Time{}
	damage, err := log.Verify(func(done, total uint64) bool {
		if time.Since(shown) > time.Second {
			shown = time.Now()
			fmt.Fprintf(errOut, "\r%d of %d MiB read", done>>20, total>>20)
		}
		return true
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(errOut, "\r%d MiB read in %v\n", (log.End()-log.First())>>20, time.Since(began).Round(time.Millisecond))
	if damage == nil {
		fmt.Fprintf(out, "the log is whole: offsets %d to %d\n", log.First(), log.End())
		return nil
	}
	fmt.Fprintf(out, "damaged: %v\n", damage)
	if !cut {
		return errors.New("the log is damaged: start the broker, and it fetches what it lacks from another replica; or, if this is the last one, cut it off with --cut")
	}
	kept, err := log.Cut(damage.Offset)
	for _, k := range kept {
		fmt.Fprintf(out, "cut off: offsets %d to %d, kept in %s\n", k.From, k.To, k.File)
	}
	return err
}
