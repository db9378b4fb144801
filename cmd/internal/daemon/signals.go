package daemon

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// WaitSignal is a task: it returns [ErrStop] on SIGTERM or SIGINT. From then on
// these signals have their default action again, so a second one ends a process
// that is stuck in its shutdown. SIGHUP is logged and changes nothing: losing a
// terminal, or an operator's habit of sending it, must not cost an address.
func WaitSignal(ctx context.Context, log *slog.Logger) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-signals:
			if s == syscall.SIGHUP {
				log.Info("ignoring signal; the configuration is read at start only", "signal", s.String())
				continue
			}
			log.Info("stopping", "signal", s.String())
			return ErrStop
		}
	}
}
