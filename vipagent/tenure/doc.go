// Package tenure decides what a host may hold, and what it must give up. A [Book]
// is what one agent knows: the newest view of the quorum, its own sessions, the
// floors of what it has released, and what it has raised and not yet seen down. It
// is pure: no I/O, no goroutine, no clock. So the same code runs in the agent, in
// the simulator and in the exhaustive checker.
//
// Comments name the rules of the lease protocol as "agent rule 3"; the list is in
// package vipagent.
//
// # Who does what
//
// The caller owns the host: it reads the clock, the kernel and the answers to
// renewals, and does what the Book says. Deadlines belong to whoever renews, so the
// Book keeps none: a question that depends on them takes a [Moment].
//
// # Orders
//
// Four things are safe only in one order. Each is a call for every step, and a step
// gives nothing away before the one before it was reported:
//
//   - Start: [Book.Adopt]; compare the whole kernel with what may be held;
//     [Book.Swept]. No session is opened and none is closed before.
//   - Release (agent rule 5): [Book.Decide] says what has to go; lower it; read back;
//     [Book.LetGo] raises the floors of what is confirmed down; write [Book.File];
//     [Book.Stored] returns what may be sent now.
//   - Rebind (agent rule 7): [Book.RebindReady]; [Book.BeginRebind], from which on both
//     deadlines count; write the file; Stored; [Book.MayRebind].
//   - Close: a session was dropped, or [Book.End] ends all; zero its deadline; write
//     the file without it, or delete it; Stored or [Book.Deleted]; [Book.Closable]
//     returns it when nothing of it is up.
package tenure
