package router

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"holdfast/vipagent/keepalived"
)

// Config is what a Router needs. All fields but MACs are required.
type Config struct {
	Keepalived   *keepalived.Config
	Logger       *slog.Logger
	Clock        Clock
	Links        Links
	Addresses    Addresses
	Routes       Routes
	MACs         MACs // nil: use_vmac is a fault
	Sockets      Sockets
	Scripts      Scripts
	Surroundings Surroundings
	// Keep: addresses, routes and rules stay when the Router ends (--dont-release-vrrp).
	Keep bool
}

// Router is all virtual routers of one host.
type Router struct {
	log  *slog.Logger
	host Config

	inbox chan func()
	tasks sync.WaitGroup
	// life ends when nothing new is to be started; brief, a while later, ends what
	// still runs.
	life, brief context.Context
	kill        context.CancelFunc // ends brief
	stopping    bool

	// Below: the owner's, which is the goroutine of Run.
	agenda    agenda
	current   *setup
	links     map[string]Link
	promoted  map[string]promotion
	stale     bool // links are to be read again
	repair    appointment
	waiting   appointment // the end of a startup delay
	started   bool
	notifier  notifier
	statics   statics
	lateTimer uint64
}

// inboxSize is how many events may wait. Packets wait in the kernel behind them.
const inboxSize = 256

// New prepares the virtual routers. It starts nothing and changes nothing. A
// Router runs once.
func New(c Config) *Router {
	r := &Router{log: c.Logger, host: c, inbox: make(chan func(), inboxSize), current: &setup{}, links: map[string]Link{}, promoted: map[string]promotion{}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.brief, r.kill = context.WithCancel(context.Background()) // events may come before Run has begun
	r.notifier.router = r
	r.repair.do = func(time.Duration) { r.repairAll() }
	r.waiting.do = func(time.Duration) { r.begin() }
	return r
}

// lastWords is how long scripts that were started at the end, and what else still
// runs, may take.
const lastWords = 5 * time.Second

// Run runs the virtual routers until ctx ends; then it sends priority 0 for those that
// are Active, takes everything down and returns nil. An error says that it could not
// begin or that the kernel's news have ended; everything is down then, too.
func (r *Router) Run(ctx context.Context) error {
	defer r.kill()
	life, stop := context.WithCancel(r.brief)
	defer stop()
	r.life = life
	g := r.host.Keepalived.Global
	r.runHook(g.StartupScript, g.StartupTimeout, "startup script")
	if err := r.open(); err != nil {
		return err
	}
	failed := make(chan error, 1)
	watchCtx, unwatch := context.WithCancel(r.brief)
	defer unwatch()
	r.tasks.Go(func() {
		err := r.host.Links.Watch(watchCtx, func() { r.post(func() { r.stale = true }) })
		if watchCtx.Err() == nil {
			failed <- fmt.Errorf("watch interfaces: %w", err)
		}
	})
	err := r.loop(ctx, failed)
	stop()
	r.stopping = true
	r.shutdown()
	unwatch()
	r.drain()
	g = r.current.config.Global
	r.runHook(g.ShutdownScript, g.ShutdownTimeout, "shutdown script")
	return err
}

// post gives the owner something to do; it waits while the inbox is full.
func (r *Router) post(f func()) {
	select {
	case r.inbox <- f:
	case <-r.brief.Done():
	}
}

// loop is the owner's work.
func (r *Router) loop(ctx context.Context, failed <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		r.settle()
		now := r.host.Clock.Now()
		wait := time.Hour
		if at, ok := r.agenda.next(); ok {
			wait = at - now
		}
		timer.Reset(max(0, wait))
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case f := <-r.inbox:
			f()
			r.more()
		case <-timer.C:
		}
		r.keepAppointments()
	}
}

// turn is how many events are handled before timers get their turn, and how many
// timers before events do.
const turn = 64

// more handles what else is in the inbox.
func (r *Router) more() {
	for range turn {
		select {
		case f := <-r.inbox:
			f()
		default:
			return
		}
	}
}

// stall is how late a timer must be to say that this process did not run: what others
// have sent meanwhile must then be heard before anything is concluded from silence.
const stall = 100 * time.Millisecond

func (r *Router) keepAppointments() {
	for range turn {
		now := r.host.Clock.Now()
		p := r.agenda.take(now)
		if p == nil {
			return
		}
		late := now - p.at
		if late > stall {
			r.lateTimer++
			r.log.Warn("a timer is late: this process did not run", "late", late.Round(time.Millisecond))
		}
		p.do(late)
	}
}

// settle draws the conclusions from changes of links, once for many of them.
func (r *Router) settle() {
	if r.stale {
		r.stale = false
		r.readLinks()
	}
}

// drain waits for what still runs, for a while, and then ends it.
func (r *Router) drain() {
	done := make(chan struct{})
	go func() { r.tasks.Wait(); close(done) }()
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-r.inbox: // too late
		case <-timer.C:
			r.kill()
		}
	}
}

// runHook runs a script that belongs to the beginning or the end.
func (r *Router) runHook(c *keepalived.Command, timeout time.Duration, what string) {
	if c == nil {
		return
	}
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	// Not under brief: at the end others may have used up their time, and it has its own.
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := r.host.Scripts.Prepare(*c)
	if err == nil {
		err = r.host.Scripts.Run(ctx, *c)
	}
	if err != nil {
		r.log.Warn(what+" failed", "command", c.Args, "error", err)
	}
}
