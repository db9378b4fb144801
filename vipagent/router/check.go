package router

import (
	"context"
	"time"

	"holdfast/vipagent/keepalived"
)

// check runs a vrrp_script at its interval.
type check struct {
	*factor
	router  *Router
	conf    keepalived.Script
	next    appointment
	running bool
	result  int // 0..rise-1: down; rise..rise+fall-1: up
	last    error
	gone    bool // by a reload
}

func newCheck(r *Router, f *factor, s keepalived.Script) *check {
	c := &check{factor: f, router: r, conf: s}
	c.result = max(1, s.Rise) - 1 // one success is enough at the start, and one failure
	if s.InitFail {
		c.set(false)
	}
	c.next.do = func(time.Duration) { c.run() }
	return c
}

// adopt goes on where the same script's former check was.
func (c *check) adopt(old *check) {
	if c.last = old.last; old.state != unknown {
		c.set(old.state == up)
	}
}

// set makes it fully up or down.
func (c *check) set(good bool) {
	c.state, c.result = down, 0
	if good {
		c.state, c.result = up, max(1, c.conf.Rise)+max(1, c.conf.Fall)-1
	}
}

// run starts the script, unless it still runs.
func (c *check) run() {
	r := c.router
	interval, now := max(c.conf.Interval, time.Millisecond), r.host.Clock.Now()
	next := c.next.at + interval
	if next <= now { // runs that were missed are not made up for
		next = now + interval
	}
	r.agenda.set(&c.next, next)
	if c.running || c.gone {
		return
	}
	timeout := c.conf.Timeout
	if timeout <= 0 {
		timeout = c.conf.Interval
	}
	c.running = true
	r.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(r.life, timeout)
		defer cancel()
		err := r.host.Scripts.Run(ctx, c.conf.Command)
		if r.life.Err() == nil {
			r.post(func() { c.finished(err) })
		}
	})
}

// finished takes one result in.
func (c *check) finished(err error) {
	c.running = false
	if c.gone {
		return
	}
	c.last = err
	before := c.state
	rise := max(1, c.conf.Rise)
	switch {
	case err == nil && c.result < rise-1:
		c.result++
	case err == nil:
		c.set(true)
	case c.result > rise:
		c.result--
	default:
		c.set(false)
	}
	if c.state == before {
		return
	}
	c.router.log.Info("script changed", "script", c.conf.Name, "state", c.state.String(), "result", resultOf(err))
	c.router.review()
}

// watchFile follows the number in a tracked file.
func (r *Router) watchFile(f *factor, conf keepalived.TrackFile) {
	read := func() (int, error) { return r.host.Surroundings.Number(conf.Path) }
	f.value, _ = read()
	f.state = up
	r.watchEvery(f, fileEvery, read, func(n int) {
		r.log.Info("tracked file changed", "file", f.name, "value", n)
		f.value = n
		r.review()
	})
}

// How often tracked files and processes are looked at.
const (
	fileEvery    = 100 * time.Millisecond
	processEvery = 250 * time.Millisecond
)

// watchEvery calls changed, as the owner, when what look returns is another than
// before. The first result is told in any case.
func (r *Router) watchEvery(f *factor, interval time.Duration, look func() (int, error), changed func(int)) {
	ctx, stop := context.WithCancel(r.life)
	f.stop = stop
	r.tasks.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		last, told, failed := 0, false, false
		for {
			n, err := look()
			if (err != nil) != failed {
				failed = err != nil
				if failed {
					r.log.Warn("cannot look at what is tracked", "kind", f.kind, "name", f.name, "error", err)
				}
			}
			if err == nil && (n != last || !told) {
				last, told = n, true
				r.post(func() {
					if ctx.Err() == nil {
						changed(n)
					}
				})
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
}

// quorum follows the number of processes of a vrrp_track_process.
type quorum struct {
	*factor
	router *Router
	conf   keepalived.TrackProcess
	count  int
	late   appointment // the change that a delay holds back
}

func (r *Router) watchProcesses(q *quorum) {
	q.late.do = func(time.Duration) { q.settle() }
	r.watchEvery(q.factor, processEvery, func() (int, error) { return r.host.Surroundings.Processes(q.conf) }, q.counted)
}

// met tells whether as many processes run as should.
func (q *quorum) met() bool { return q.count >= q.conf.Quorum && q.count <= q.conf.QuorumMax }

func (q *quorum) counted(n int) {
	q.count = n
	delay := q.conf.EndDelay
	if q.met() {
		delay = q.conf.ForkDelay
	}
	switch {
	case q.met() == (q.state == up) && q.state != unknown:
		q.router.agenda.cancel(&q.late)
	case q.state == unknown || delay <= 0:
		q.settle()
	case q.late.index == 0:
		q.router.agenda.set(&q.late, q.router.host.Clock.Now()+delay)
	}
}

func (q *quorum) settle() {
	state := down
	if q.met() {
		state = up
	}
	if state == q.state {
		return
	}
	q.state = state
	q.router.log.Info("tracked process changed", "process", q.name, "state", state.String(), "count", q.count)
	q.router.review()
}

// resultOf is the result of a script in words.
func resultOf(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}
