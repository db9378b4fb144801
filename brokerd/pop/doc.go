// Package pop is the consumers' state of one broker group: what each consumer group has
// been given of each queue, until when it is invisible to others, and what it has
// settled. It is PURE: times, random numbers and messages are arguments.
//
// # State and bodies
//
// The state is a function of the log. Its records of kind state have a body each, and
// [State.Apply] applies the bodies in log order to the same state on every replica. A
// master makes them: it asks the state for a plan ([State.Receive], [State.Ack],
// [State.Delay], [State.Renew]), which changes nothing, appends the plan's body to its
// log, and applies the body. The three steps are one under the owner's lock. So the
// state is always that of the log's end, the next plan sees what the last one claimed
// although that is not confirmed yet, and two consumers are never given one message by
// chance. An append that fails leaves nothing behind.
//
// What a plan says may be told to a client only when its record is confirmed.
//
// A replica that cuts its log must go back: it restores a snapshot that lies before the
// cut and applies what follows. A snapshot is made of the log's end, whose tail may still
// be cut; so it is to be kept only once the confirm offset has passed that end.
//
// # What is kept
//
// Of each (consumer group, topic, queue), called a position, there is the next offset that
// was never delivered, and one entry for each message below it that is in flight. What is
// below it and not in flight has been settled, so that nothing is kept for it. A message
// whose invisible time is over stays in flight: whoever asks next gets it, under another
// nonce and one attempt higher.
//
// # Bounds
//
// An entry takes about 150 bytes. [Limits] bounds the entries of a consumer group over all
// of its queues, and the positions of a broker group. At the limit no new message is
// claimed, while what is in flight can be settled and delivered again. Limits hold for
// plans alone: a replica applies what a master with other limits has written.
package pop
