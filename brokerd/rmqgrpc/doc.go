// Package rmqgrpc is a broker's endpoint for RocketMQ 5 clients: the gRPC service
// apache.rocketmq.v2.MessagingService.
//
// # Every broker answers for the whole cluster
//
// A route names all live brokers as the endpoints of every queue. A broker that gets a call
// for a group whose master is elsewhere makes the very same call there, under the client's
// own metadata and one more key, [forwardedKey]; a call that has been passed on once
// is not passed on again. So producers go on while a group has no master, without relying on
// their own retries: SendMessage goes to a master of any group, to the next after a
// definite refusal.
//
// # Errors
//
// Errors are codes in the answer, as clients of RocketMQ expect. For a producer these
// are definite, nothing was stored: all 4xxxx, and HA_NOT_AVAILABLE (50002).
// These are indefinite, the message may be stored: SLAVE_PERSISTENCE_TIMEOUT (50402, not
// confirmed by the in-sync set), MASTER_PERSISTENCE_TIMEOUT (50401, not durable on the
// master), PROXY_TIMEOUT (50400, the master did not answer), INTERNAL_SERVER_ERROR (50001).
//
// # Polls
//
// ReceiveMessage waits until there is something to deliver, at most as long as the client
// asked for and within 5 to 20 seconds, or a little less than its deadline. It goes on waiting
// while the group has no master. An answer that there is nothing, or that the request was
// wrong, comes at the end of that time: a client that asks again at once would spin.
//
// # Consumers
//
// A push consumer names no invisible time. The broker that it talks to renews what it
// delivered, a minute at a time, while it hears from the client, for three hours at most.
// A broker that dies no longer renews, so that the message is delivered again.
//
// # Not served
//
// Transactions, delayed messages and filters in SQL are refused by their codes; calls that
// no released client makes are answered with NOT_IMPLEMENTED.
package rmqgrpc
