// Command coordctl shows and moves what Holdfast holds.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/cmd/internal/daemon"
)

// Exit codes, as documented in `coordctl help exit-codes`.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitDegraded = 3
	exitNoQuorum = 4
	exitTimeout  = 124
)

func main() { os.Exit(run(os.Args[1:])) }

// run executes one command line and returns its exit code.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	t := newTool(os.Stdout, os.Stderr)
	root := t.command()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	defer t.close()
	if err == nil || (ctx.Err() != nil && t.watching) {
		return exitOK
	}
	var coded *codedError
	if errors.As(err, &coded) {
		if coded.err != nil {
			fmt.Fprintln(os.Stderr, "coordctl:", coded.err)
		}
		return coded.code
	}
	fmt.Fprintln(os.Stderr, "coordctl:", explainError(err))
	return codeOf(err)
}

// codedError carries an exit code that the error's kind alone does not tell.
type codedError struct {
	code int
	err  error // printed if not nil
}

func (e *codedError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *codedError) Unwrap() error { return e.err }

// codeOf maps an error to an exit code.
func codeOf(err error) int {
	switch status.Code(err) {
	case codes.Unavailable:
		return exitNoQuorum
	case codes.DeadlineExceeded:
		return exitTimeout
	}
	var bad *daemon.ConfigError
	switch {
	case errors.As(err, &bad):
		return exitUsage
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	return exitError
}

// explainError is what a person reads: the server's own words without gRPC's
// wrapping, and the next step where there is one.
func explainError(err error) string {
	st, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	switch st.Code() {
	case codes.Unavailable:
		return st.Message() + "\n  `coordctl status` shows which coordinators answer"
	case codes.DeadlineExceeded:
		return "no answer in time: " + st.Message() + "\n  a change may still be committed later; look with `coordctl events`"
	}
	return st.Message()
}
