// Package sim proves what can be proved without machines: a simulator and an
// exhaustive checker, both over the shipped pure cores and not over a model of them.
//
// # What is shipped and what is not
//
// Shipped code is run as it is: fsm (state, commands, snapshots), coordinator/lease
// (promises, marks, holders, the datagrams), coordinator/ledger (what needs both),
// coordinator/schedule, vipagent/tenure (the agent's rules) and vipagent/vip (plans).
// Made up are the surroundings: the network, the replicated log, the disks, the clocks
// and the kernel; and the glue that is goroutines in the programs: the order of one step
// of the agent's owner (acts.go follows vipagent/hold.go and raise.go), who is asked
// when a session ends (leader.go follows coordinator/ending.go), and when renewals are
// sent (rider.go follows vipagent/renew.go).
//
// # The simulator
//
// One seed is one run: [Run]. Three coordinators, by changes of membership two to five;
// two or three hosts; up to three VIP sets with up to six addresses. Calm stretches and
// bad ones take turns. In a bad one there are, by its kind: datagrams that are lost, doubled,
// late and out of order; links that are cut one way, both ways, for a side or for
// a mesh that is not transitive; agents that are killed, stopped for up to three TTLs
// between any two acts, told to end, restarted, and hosts that reboot; coordinators
// that crash, stand still, apply late, write late, fail to write, and restart from the
// newer or the older of their snapshots; elections; members that join and leave; and an
// operator who moves addresses, deletes and restores sets, pauses, drains and moves.
// Every clock has a rate of its own within its bound, and half of the runs have a bound of
// 5 % instead of 0.1 %, so that a missing margin shows. One run of sixteen passes
// entries, snapshots and datagrams through their encoded forms.
//
// The log (log.go, raft.go) has terms, uncommitted entries that are cut off or committed
// by a later leader, configurations in force from the moment they are in a log, followers
// that lag and that are brought up by a snapshot. Its exchanges are atomic; Raft itself
// is taken to be right, and a violation of that is told as a fault of the simulation.
//
// Checked after each act and each commit:
//
//   - a host answers for an address (it is there, and the fence lets packets pass by
//     the deadline on that host's clock) only while the newest committed state keeps the
//     address for that host, by a grant or a retiring row. No two hosts can then answer
//     for one address, which is checked on its own as well (invariants 1, 3 and 4);
//   - when an Expire commits, no deadline of that session lies ahead anywhere: in the
//     kernel, published, or computed and not stored yet (invariant 3);
//   - epochs of a set only rise (invariant 2);
//   - no session of a host that nothing kept from renewing ends (invariant 5);
//   - a fixed time after the last fault each set is held, and its holder answers for each
//     of its addresses.
//
// # The checker
//
// TestCheck visits every state within the bounds of each configuration in configs.go,
// breadth first, by a 128-bit hash of a canonical form; so a violation comes with a
// shortest trace. There is no single leader: any command that was ever proposed may be
// committed at any later time, and any agreement may be used by anybody. Time goes in
// ticks; in one a slow clock goes one unit and a fast one three, which is their bound, so
// a promise is exactly as long as it must be. Coordinators are interchangeable
// if they are in the same configurations, and states that differ in that alone count once.
//
// Small configurations (singles.go) have one rule alone that in the others a second one
// covers for: no fence in the kernel, a session file that outlives a reboot, answers to
// rounds of a former process, two changes of membership in a row, commands that must
// be refused. One fault is planted in the surroundings, one deadline for all sessions,
// as the fence is not shipped code here: TestOneSlot.
//
// Two faults cannot break an invariant, because another rule covers them always:
//
//   - no quiet time, or a short one: a coordinator learns its configuration at its start
//     or later, and the wait that begins then is for the larger of its longest TTL and the
//     session's, so it never ends before the quiet time does;
//   - a grant of another session is acted upon: the agent goes by the lease of the session
//     that the grant names, and it has none of a session that is not its own in use.
//
// # What is not modelled
//
// Packets, interfaces, routes and announcements (only whether an address would answer);
// address lifetimes, which only ever take an address away; two agents on one host (the lock
// of the session file is taken to hold); kernel calls that fail; health checks but as
// vetoes; in the simulator hosts whose kernel has no fence; machines that are paused without their clocks
// (README: what it does not promise); coordinators whose disk is lost; gRPC streams. In the
// checker a log is never cut off (the simulation in coordinator/lease and the simulator
// do that), and what is written is written at once, except where a configuration says so.
//
// # How to run it
//
//	go test ./test/sim                                     300 seeds, all configurations
//	go test ./test/sim -run TestSimulation -runs 10000     more seeds
//	go test ./test/sim -run TestSimulation -seed 7 -v      one seed, with its story
//	go test ./test/sim -run TestCheck -config rebind       one configuration
//	make sim, make check                                   campaigns
//
// A violation prints one line "FOUND seed=N time=T" or "FOUND config=NAME depth=N".
package sim
