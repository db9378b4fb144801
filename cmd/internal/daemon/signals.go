package daemon

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// sameRequest is how long a second demand to stop counts as the first: a service
// manager may signal a whole group, and the guardian passes its own on.
const sameRequest = 500 * time.Millisecond

// WaitSignal is a task: it returns [ErrStop] on SIGTERM or SIGINT. Half a second
// later these signals have their default action again, so another one ends a
// process that is stuck in its shutdown. SIGHUP is logged and changes nothing:
// losing a terminal, or an operator's habit of sending it, must not cost an
// address. ready is called once signals are taken.
func WaitSignal(ctx context.Context, log *slog.Logger, ready func()) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	ready()
	for {
		select {
		case <-ctx.Done():
			signal.Stop(signals)
			return nil
		case s := <-signals:
			if s == syscall.SIGHUP {
				log.Info("ignoring signal; the configuration is read at start only", "signal", s.String())
				continue
			}
			log.Info("stopping", "signal", s.String())
			time.AfterFunc(sameRequest, func() { signal.Stop(signals) })
			return ErrStop
		}
	}
}
