package vipagent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// journal writes the log on a goroutine of its own: a pipe that nobody reads
// must not keep the owner from taking an address down.
type journal struct {
	logger  *slog.Logger
	lines   chan line
	dropped atomic.Uint64
}

type line struct {
	at      time.Time // only shown
	level   slog.Level
	message string
	args    []any
}

func newJournal(l *slog.Logger) *journal {
	return &journal{logger: l, lines: make(chan line, 1024)}
}

func (j *journal) info(message string, args ...any)  { j.put(slog.LevelInfo, message, args) }
func (j *journal) warn(message string, args ...any)  { j.put(slog.LevelWarn, message, args) }
func (j *journal) error(message string, args ...any) { j.put(slog.LevelError, message, args) }

func (j *journal) put(level slog.Level, message string, args []any) {
	select {
	case j.lines <- line{time.Now(), level, message, args}:
	default:
		j.dropped.Add(1)
	}
}

// run writes until ctx ends, and then what is left. It waits for a log that
// blocks, so its caller must not have anything left to do.
func (j *journal) run(ctx context.Context) {
	for {
		select {
		case l := <-j.lines:
			j.write(l)
		case <-ctx.Done():
			for {
				select {
				case l := <-j.lines:
					j.write(l)
				default:
					return
				}
			}
		}
	}
}

func (j *journal) write(l line) {
	ctx := context.Background()
	h := j.logger.Handler()
	if !h.Enabled(ctx, l.level) {
		return
	}
	r := slog.NewRecord(l.at, l.level, l.message, 0)
	r.Add(l.args...)
	_ = h.Handle(ctx, r)
}
