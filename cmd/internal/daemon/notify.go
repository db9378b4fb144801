package daemon

import (
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Notifier tells systemd how the daemon is (sd_notify). Without systemd all its
// methods do nothing. It is safe for concurrent use.
type Notifier struct {
	socket   string // "" = nobody listens
	watchdog time.Duration
}

// NewNotifier reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID from the
// process's environment.
func NewNotifier() *Notifier {
	return newNotifier(os.Getenv, os.Getpid())
}

func newNotifier(getenv func(string) string, pid int) *Notifier {
	n := &Notifier{socket: getenv("NOTIFY_SOCKET")}
	if !strings.HasPrefix(n.socket, "/") && !strings.HasPrefix(n.socket, "@") {
		n.socket = ""
	}
	if p := getenv("WATCHDOG_PID"); p != "" && p != strconv.Itoa(pid) {
		return n
	}
	if usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
		n.watchdog = time.Duration(usec) * time.Microsecond
	}
	return n
}

// Ready says that the daemon serves, with one line on its state.
func (n *Notifier) Ready(status string) { n.send("READY=1\nSTATUS=" + oneLine(status)) }

// Status replaces the line on the daemon's state.
func (n *Notifier) Status(status string) { n.send("STATUS=" + oneLine(status)) }

// Stopping says that the shutdown has begun.
func (n *Notifier) Stopping() { n.send("STOPPING=1") }

// WatchdogInterval is how often systemd wants to hear [Notifier.Alive] before
// it kills the daemon; 0 means never.
func (n *Notifier) WatchdogInterval() time.Duration { return n.watchdog }

// Alive feeds the watchdog. It is to be called by the loop whose progress
// matters, at least twice per WatchdogInterval, and never by a mere ticker.
func (n *Notifier) Alive() {
	if n.watchdog > 0 {
		n.send("WATCHDOG=1")
	}
}

// send is best effort: a daemon does its work also if systemd does not listen.
func (n *Notifier) send(message string) {
	if n.socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) // never hold up the caller
	_, _ = conn.Write([]byte(message))
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }
