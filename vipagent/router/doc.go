// Package router runs the virtual routers of a keepalived.conf on one host, without
// a coordinator: what Keepalived's VRRP process does, with Keepalived's guarantees.
// Two hosts that do not hear each other both become Active, and a process that is
// killed leaves its addresses up: the quorum is what this mode does not have.
//
// One goroutine, that of [Router.Run], owns everything: the state machines of package
// vrrp, what is tracked, which addresses are up. Packets, changes of links, results
// of scripts, signals come to it through one inbox, timers through one agenda. Work
// that may take long (scripts, mails, reading /proc) is done beside it.
//
// What an instance should have is compared with what it has got, after each event: a
// reload is a change of what it should have, like any other.
package router
