package rmqgrpc

import (
	"context"

	"holdfast/brokerd/pop"
	"holdfast/brokerd/service"
)

// Local is the replica of this broker's group. Each method refuses with
// [service.ErrNotMaster] when the replica is not the master or its lease has passed.
type Local interface {
	// Send stores messages and returns the queue offset of the first once they are
	// acknowledged by the group's rules. Errors are definite or not, see
	// [service.Definite].
	Send(ctx context.Context, s service.Send) (offset uint64, err error)
	// Receive claims messages, waiting until there are some or waiting is done: then there
	// are none, and no error. ctx bounds the whole call, with the confirmation of what was
	// claimed. Messages that were delivered too often are moved to the group's dead letter
	// topic on the way. What it returns is confirmed.
	//
	// While the group has no master, a replica may deliver what it knows to be confirmed. Such
	// claims are in its memory alone: the next master knows nothing of them, refuses their
	// handles, and delivers the messages again.
	Receive(ctx, waiting context.Context, r service.Receive) ([]service.Delivery, error)
	// Ack settles messages; it returns one verdict for each handle, confirmed.
	Ack(ctx context.Context, handles []pop.Handle) ([]pop.Verdict, error)
	// Delay moves the time at which messages become visible again.
	Delay(ctx context.Context, d service.Delay) ([]service.Settlement, error)
	// Bury moves a message to the dead letter topic of its consumer group.
	Bury(ctx context.Context, h pop.Handle) (pop.Verdict, error)
}

// Cluster is what this broker knows of the others.
type Cluster interface {
	// View returns the latest view. It is never nil.
	View() *service.View
	// Wait waits for a view behind that index, and returns early only with ctx's error.
	Wait(ctx context.Context, index uint64) error
	// Ensure makes a topic that is not there, if the cluster is configured to; the next
	// view has it. Else it returns [service.ErrNoTopic].
	Ensure(ctx context.Context, topic string) error
}
