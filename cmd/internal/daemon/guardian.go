package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// firstPause to maxPause is the least time from one start to the next. Whoever
	// lived longer is started at once, because its lease runs; so is the first
	// one that dies after livedLong.
	firstPause = 10 * time.Millisecond
	maxPause   = time.Second
	livedLong  = 10 * time.Second
	// abortWithin is how long a child may take to write what its goroutines do
	// when the service manager's watchdog asks for it.
	abortWithin = time.Second
)

// guardian runs a daemon as its child and starts it again when it dies of
// anything but its own decision. It does nothing else, so that there is little
// in it that can fail, and it holds nothing: when it is killed the daemon goes on.
type guardian struct {
	log     *slog.Logger
	start   func() (*child, error)
	signals <-chan os.Signal
	changes <-chan os.Signal // SIGCHLD: the child was stopped, or goes on
	janitor *janitor
	pauses  pauses

	held     []os.Signal // for a child that takes signals
	stops    int         // how often it was told to stop
	aborting bool        // the service manager gives up on us
	last     bool        // the child that runs is the last one
}

// child is a daemon that runs.
type child struct {
	pid    int
	ready  <-chan struct{} // closed when it takes signals
	ended  <-chan ending   // once
	signal func(os.Signal) error
	// stopped says whether it stands still (SIGSTOP).
	stopped func() bool
}

// ending is how a child ended, or why there was none.
type ending struct {
	code   int            // exit code; -1: a signal, or err
	signal syscall.Signal // that ended it; 0: none did
	err    error          // it could not be started
}

// String says it for the log.
func (e ending) String() string {
	switch {
	case e.err != nil:
		return e.err.Error()
	case e.signal != 0:
		return "killed by " + unix.SignalName(e.signal)
	}
	return fmt.Sprintf("exit code %d", e.code)
}

// final says whether the child has ended by its own decision, and with which
// exit code the program is to end then. A panic and SIGQUIT end a Go program with
// code 2, as does a wrong flag: a child therefore adds finalCode where it means it.
func (e ending) final() (code int, ok bool) {
	switch {
	case e.err != nil:
		return 0, false
	case e.code >= finalCode:
		return e.code - finalCode, true
	}
	return e.code, e.code == ExitOK
}

// pauses says how long to wait before each start.
type pauses struct{ next time.Duration } // from start to start

// after takes how long the child has lived.
func (p *pauses) after(lived time.Duration) time.Duration {
	if lived >= livedLong {
		p.next = 0
	}
	pause := max(p.next-lived, 0)
	p.next = min(max(2*p.next, firstPause), maxPause)
	return pause
}

// run guards until the child has ended by its own decision or was told to stop,
// and returns the exit code.
func (g *guardian) run() int {
	var died fault
	for {
		born := time.Now()
		c, err := g.start()
		end := ending{code: -1, err: err}
		if err == nil {
			end = g.attend(c, died)
		}
		if code, ok := end.final(); ok {
			return code
		}
		now := time.Now()
		died = fault{end: end, at: now, lived: now.Sub(born)}
		if err == nil {
			died.pid = c.pid
		}
		if g.last || g.aborting {
			g.log.Error("died while it was to stop", "how", end)
			return ExitError
		}
		g.wait(g.pauses.after(died.lived), died)
	}
}

// fault is one death that was not to be.
type fault struct {
	end   ending
	pid   int
	at    time.Time
	lived time.Duration
}

// attend follows a child to its end. died is why it was started, to be logged
// as soon as it is clear how long that took.
func (g *guardian) attend(c *child, died fault) ending {
	ready := c.ready
	var kill, again <-chan time.Time
	for {
		if g.aborting && kill == nil {
			g.abort(c)
			kill = time.After(abortWithin)
		}
		// A second demand ends one that never comes to take the first.
		if ready == nil || g.stops > 1 {
			g.passOn(c)
		}
		select {
		case s := <-g.signals:
			g.take(s)
		case <-ready:
			ready = nil
			g.restarted(died, c.pid)
		case <-g.changes:
			again = g.standIn(c)
		case <-again:
			again = g.standIn(c)
		case <-kill:
			_ = c.signal(syscall.SIGKILL) // it may be stopped, or busy in the kernel
		case end := <-c.ended:
			if ready != nil {
				g.restarted(died, c.pid)
			}
			return end
		}
	}
}

// standIn tidies up for a child that stands still, and says when to look again.
func (g *guardian) standIn(c *child) <-chan time.Time {
	if !c.stopped() {
		return nil
	}
	g.janitor.tidy()
	return time.After(tidyEvery)
}

func (g *guardian) restarted(died fault, pid int) {
	if died.at.IsZero() {
		return
	}
	g.log.Warn("died and was started again", "how", died.end, "pid", died.pid, "after", died.lived.Round(time.Millisecond),
		"new pid", pid, "took", time.Since(died.at).Round(10*time.Microsecond))
}

// take notes a signal for the child.
func (g *guardian) take(s os.Signal) {
	switch s {
	case syscall.SIGABRT:
		g.aborting = true
		return
	case syscall.SIGTERM, syscall.SIGINT:
		g.stops++
	}
	g.held = append(g.held, s)
}

// passOn gives the child what was held for it. A child that was told to stop is
// the last one.
func (g *guardian) passOn(c *child) {
	for _, s := range g.held {
		_ = c.signal(s) // it has ended: that is what comes next
	}
	g.held = nil
	g.last = g.last || g.stops > 0
}

// abort lets the child say what it does, and die of it. A stopped one goes on
// for that.
func (g *guardian) abort(c *child) {
	_ = c.signal(syscall.SIGABRT)
	_ = c.signal(syscall.SIGCONT)
}

// wait pauses before the next start. A demand to stop cuts it short: only a child
// can take addresses down and say so, and there is only one more try.
func (g *guardian) wait(pause time.Duration, died fault) {
	if g.stops > 0 {
		g.last = true
		return
	}
	if pause == 0 {
		return
	}
	g.janitor.tidy()
	g.log.Warn("died again, waiting before the next start", "how", died.end, "after", died.lived.Round(time.Millisecond), "pause", pause)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case s := <-g.signals:
			g.take(s)
			if g.stops > 0 {
				g.last = true
				return
			}
			if g.aborting {
				return
			}
		case <-timer.C:
			return
		}
	}
}
