package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// At most logBurst messages of one kind pass within logWindow: one stranger
// who sends rubbish must not fill the disk with a line per datagram.
const (
	logBurst  = 5
	logWindow = 10 * time.Second
)

// logAdapter takes the lines of memberlist's log.Logger, which begin with
// their level in brackets, and passes them on with that level.
type logAdapter struct {
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	kinds map[string]*logKind
}

type logKind struct {
	since      time.Time
	passed     int
	suppressed int
}

func newMemberlistLogger(l *slog.Logger, now func() time.Time) *log.Logger {
	return log.New(&logAdapter{log: l, now: now, kinds: make(map[string]*logKind)}, "", 0)
}

// Write implements io.Writer: one call is one line.
func (a *logAdapter) Write(b []byte) (int, error) {
	level, text := splitLevel(strings.TrimSpace(string(b)))
	ctx := context.Background()
	if !a.log.Enabled(ctx, level) {
		return len(b), nil
	}
	pass, suppressed := a.admit(kindOf(text))
	if !pass {
		return len(b), nil
	}
	attrs := []slog.Attr{slog.String("source", "memberlist")}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	a.log.LogAttrs(ctx, level, text, attrs...)
	return len(b), nil
}

func splitLevel(line string) (slog.Level, string) {
	level := slog.LevelInfo
	if rest, ok := strings.CutPrefix(line, "["); ok {
		if word, text, ok := strings.Cut(rest, "] "); ok {
			line = text
			switch word {
			case "ERR", "ERROR":
				level = slog.LevelError
			case "WARN":
				level = slog.LevelWarn
			case "DEBUG":
				level = slog.LevelDebug
			}
		}
	}
	return level, strings.TrimPrefix(line, "memberlist: ")
}

// kindOf is the part of a message before anything that varies, so there are
// only as many kinds as memberlist has messages.
func kindOf(text string) string {
	if i := strings.IndexAny(text, ":'\"=0123456789/"); i >= 0 {
		text = text[:i]
	}
	return text[:min(len(text), 64)]
}

// admit says whether a message passes, and how many of its kind did not since
// the last one that did.
func (a *logAdapter) admit(kind string) (pass bool, suppressed int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	k := a.kinds[kind]
	if k == nil {
		if len(a.kinds) >= 256 {
			clear(a.kinds)
		}
		k = &logKind{since: now}
		a.kinds[kind] = k
	}
	if now.Sub(k.since) >= logWindow {
		k.since, k.passed = now, 0
	}
	if k.passed >= logBurst {
		k.suppressed++
		return false, 0
	}
	k.passed++
	suppressed, k.suppressed = k.suppressed, 0
	return true, suppressed
}
