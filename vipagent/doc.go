// Package vipagent holds virtual IP addresses under leases. An [Agent] keeps a
// session with the coordinators, brings up exactly the addresses that the
// quorum has granted to it, and takes them down again before anybody else may
// have them.
//
// # Who does what
//
//   - One goroutine, the owner, owns raise, lower and release. It reads the
//     kernel, compares it with what is wanted, and makes the difference go away,
//     removal first. It makes no call to another machine: those run beside it
//     and their results come back to it as events.
//   - One goroutine renews: it sends the rounds, takes in the answers and
//     publishes the deadline of each session atomically. It makes no call that
//     can block and takes no lock that others hold while they work.
//   - One goroutine per session sleeps until the session's deadline, an absolute
//     point of CLOCK_BOOTTIME, and wakes the owner when it is reached.
//   - One goroutine writes the log, so that a log that blocks cannot keep an
//     address up.
//
// # Rules
//
// Comments name the rules of the lease protocol as "agent rule 1" and so on. Package
// lease has rule 1's arithmetic, package tenure decides by the rules 3 to 8, and this
// package does what they say:
//
//  1. Only the send time of a round counts, on CLOCK_BOOTTIME, read before its
//     first datagram leaves; opening a session gives no lease.
//  2. Round numbers are unique across restarts.
//  3. An address is raised only if its session has not lapsed, a grant names
//     that session, and the grant's epoch is above the floor. So a view that is
//     late, repeated or out of order does no harm.
//  4. A new session's deadline never holds for an address that was raised under
//     an older session.
//  5. Release: lower, confirm by reading back, write the floor, send.
//  6. The session file is used under an exclusive lock, only on the boot that
//     wrote it, and never has a deadline that answers did not prove.
//  7. A fenced session is replaced by a new one; until that is seen committed
//     both deadlines must hold.
//  8. Each address has a claim epoch of its own, and floors are kept per address.
//
// Beside the floor of each address there is one for each set: a late view that
// shows an address which joined the set shortly before the set was released
// would else pass the address's floor, because the agent has never seen the two
// together.
package vipagent
