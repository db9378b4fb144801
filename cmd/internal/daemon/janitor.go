package daemon

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// tidyEvery is how often a guardian tidies up for a child that stands still.
const tidyEvery = 50 * time.Millisecond

// janitor does for a daemon that does not run what must not wait for it. nil does
// nothing. It works beside the guardian, which must not wait either.
type janitor struct {
	log  *slog.Logger
	work func() (done int, err error)
	busy atomic.Bool
	said string // the last error; by whoever is busy
}

// tidy begins to work, unless it works already.
func (j *janitor) tidy() {
	if j == nil || !j.busy.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer j.busy.Store(false)
		done, err := j.work()
		if done > 0 {
			j.log.Warn("does not run; what its lease no longer covers was taken down", "addresses", done)
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != "" && text != j.said {
			j.log.Warn("does not run, and not all of its addresses could be looked after", "err", err)
		}
		j.said = text
	}()
}

// WithJanitor returns f with a janitor for its guardian: work is called again and again
// while the daemon is stopped or cannot be started, one call at a time, and returns how
// many addresses it took down.
func (f File[C]) WithJanitor(work func(cfg C) func() (int, error)) File[C] {
	f.janitor = work
	return f
}
