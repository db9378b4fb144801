package router

import (
	"context"
	"strconv"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

// notifier tells programs, FIFOs and people of changes of state.
type notifier struct {
	router *Router
	mails  chan mail
}

type mail struct{ subject, body string }

// mailQueue is how many mails may wait for the server; more are dropped.
const mailQueue = 64

// Keepalived's words for events that are not states.
const (
	wordStop    = "STOP"
	wordDeleted = "DELETED"
	wordLower   = "MASTER_RX_LOWER_PRI"
)

// begin starts what carries the news: the mail carrier and the FIFOs' readers, which
// end with their ctx.
func (n *notifier) begin(ctx context.Context) {
	r := n.router
	n.mails = make(chan mail, mailQueue)
	to := r.current.config.Global.Email
	mails := n.mails
	r.tasks.Go(func() {
		for m := range mails {
			if err := r.host.Surroundings.Mail(r.brief, to, m.subject, m.body); err != nil {
				r.log.Warn("cannot mail", "subject", m.subject, "error", err)
			}
		}
	})
	for _, f := range r.current.config.Global.NotifyFIFOs {
		if f.Script == nil {
			continue
		}
		r.tasks.Go(func() {
			if err := r.host.Scripts.Run(ctx, *f.Script, f.Path); err != nil && ctx.Err() == nil {
				r.log.Warn("reader of FIFO has ended", "fifo", f.Path, "error", err)
			}
		})
	}
}

// end closes the mail box; what is in it is still delivered.
func (n *notifier) end() {
	if n.mails != nil {
		close(n.mails)
		n.mails = nil
	}
}

// instance tells that an instance has entered a state, in Keepalived's word.
func (n *notifier) instance(in *instance, state string) {
	c := in.conf.Notify
	n.run(commandFor(c, state))
	n.run(c.Any, "INSTANCE", in.conf.Name, state, strconv.Itoa(int(in.priority)))
	n.line("INSTANCE", in.conf.Name, state, in.priority)
	if c.Email {
		n.mail("VRRP Instance "+in.conf.Name, state, "=> VRRP Instance")
	}
}

// group does the same for a sync group, whose priority is 0.
func (n *notifier) group(g *group, state string) {
	c := g.conf.Notify
	n.run(commandFor(c, state))
	n.run(c.Any, "GROUP", g.conf.Name, state, "0")
	n.line("GROUP", g.conf.Name, state, 0)
	if c.Email {
		n.mail("VRRP Group "+g.conf.Name, state, "=> All VRRP group instances")
	}
}

func commandFor(c keepalived.Notify, state string) *keepalived.Command {
	switch state {
	case "MASTER":
		return c.Active
	case "BACKUP":
		return c.Backup
	case "FAULT":
		return c.Fault
	case wordStop:
		return c.Stop
	case wordDeleted:
		return c.Deleted
	}
	return nil
}

// lowerPriority tells that an Active router has heard one of lower priority.
func (n *notifier) lowerPriority(in *instance) {
	n.run(in.conf.Notify.LowerPriority)
	n.line("INSTANCE", in.conf.Name, wordLower, in.priority)
}

// priority tells a new effective priority, where that is asked for.
func (n *notifier) priority(in *instance) {
	if !in.conf.Notify.Priorities {
		return
	}
	word := "BACKUP_PRIORITY"
	if stateName(in.machine.State()) == "MASTER" {
		word = "MASTER_PRIORITY"
	}
	n.line("INSTANCE", in.conf.Name, word, in.priority)
}

// states are those that have been told of groups and instances.
type states struct {
	groups    map[string]vrrp.State
	instances map[*instance]vrrp.State
}

func (s *setup) states() states {
	out := states{map[string]vrrp.State{}, map[*instance]vrrp.State{}}
	for _, g := range s.groups {
		out.groups[g.conf.Name] = g.state
	}
	for _, in := range s.instances {
		out.instances[in] = in.machine.State()
	}
	return out
}

// same writes to the FIFOs the states that are still as they were: changes are told
// in any case.
func (n *notifier) same(before states) {
	for _, g := range n.router.current.groups {
		if g.state != vrrp.Initialize && before.groups[g.conf.Name] == g.state {
			n.line("GROUP", g.conf.Name, stateName(g.state), 0)
		}
	}
	for _, in := range n.router.current.instances {
		if state := in.machine.State(); state != vrrp.Initialize && before.instances[in] == state {
			n.line("INSTANCE", in.conf.Name, stateName(state), in.priority)
		}
	}
}

// line writes to all FIFOs.
func (n *notifier) line(kind, name, state string, priority uint8) {
	text := kind + " \"" + name + "\" " + state + " " + strconv.Itoa(int(priority)) + "\n"
	for _, f := range n.router.current.config.Global.NotifyFIFOs {
		if err := n.router.host.Surroundings.Tell(f.Path, text); err != nil {
			n.router.log.Warn("cannot write to FIFO", "fifo", f.Path, "error", err)
		}
	}
}

// run starts a program and does not wait for it: a program that goes on when this
// process ends is none of its business any more.
func (n *notifier) run(c *keepalived.Command, extra ...string) {
	if c == nil {
		return
	}
	r := n.router
	if err := r.host.Scripts.Prepare(*c); err != nil {
		r.log.Error("cannot run notify script", "command", c.Args, "error", err)
		return
	}
	run := func(ctx context.Context) {
		if err := r.host.Scripts.Run(ctx, *c, extra...); err != nil {
			r.log.Warn("notify script failed", "command", c.Args, "arguments", extra, "error", err)
		}
	}
	if r.stopping {
		r.tasks.Go(func() { run(r.brief) })
		return
	}
	go run(context.WithoutCancel(r.brief))
}

// mail queues a message.
func (n *notifier) mail(who, state, what string) {
	g := n.router.current.config.Global
	if len(g.Email.To) == 0 || g.Email.Server == "" || n.mails == nil || state == "FAULT" && g.Email.NoFaults {
		return
	}
	subject, body := mailText(who, state, what)
	if g.RouterID != "" {
		subject = "[" + g.RouterID + "] " + subject
	}
	select {
	case n.mails <- mail{subject, body}:
	default:
		n.router.log.Warn("too many mails wait: one is lost", "subject", subject)
	}
}

func mailText(who, state, what string) (subject, body string) {
	switch state {
	case "MASTER":
		return who + " - Entering MASTER state", what + " has the virtual addresses now <="
	case "BACKUP", "FAULT":
		return who + " - Entering " + state + " state", what + " has no virtual addresses any more <="
	case wordStop:
		return who + " - Stopping", what + " stopping <="
	}
	return who + " - Deleted", what + " deleted at reload <="
}
