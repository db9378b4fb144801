package recorder

import (
	"context"
	"sync"

	golang "github.com/apache/rocketmq-clients/golang/v5"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/grpc"

	"holdfast/brokerd/pop"
)

// nameProperty carries the recorder's name of a message.
const nameProperty = "name"

// wire watches the client's calls for what its interface does not tell: how each try of a
// send ended, where a delivered message is, and what became of an acknowledgement.
type wire struct {
	mu        sync.Mutex
	uncertain map[string]bool  // messages of which a try may have been stored
	where     map[string]where // by receipt handle
	acks      map[string]v2.Code
}

// where is the place of a delivered message.
type where struct {
	group  string
	queue  int32
	offset int64
}

func newWire() *wire {
	return &wire{uncertain: map[string]bool{}, where: map[string]where{}, acks: map[string]v2.Code{}}
}

// install lets all clients of the process that start from now on be watched, until the
// returned function is called.
func (w *wire) install() (remove func()) {
	own := golang.NewRpcClient
	golang.NewRpcClient = func(target string, opts ...golang.RpcClientOption) (golang.RpcClient, error) {
		return own(target, append(opts, golang.WithRpcClientConnOption(golang.WithDialOptions(
			grpc.WithChainUnaryInterceptor(w.unary), grpc.WithChainStreamInterceptor(w.stream))))...)
	}
	return func() { golang.NewRpcClient = own }
}

func (w *wire) unary(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, conn, opts...)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch r := request.(type) {
	case *v2.SendMessageRequest:
		code := reply.(*v2.SendMessageResponse).GetStatus().GetCode()
		definite := code == v2.Code_OK || code == v2.Code_HA_NOT_AVAILABLE || code >= 40000 && code < 50000
		for _, m := range r.GetMessages() {
			if err != nil || !definite {
				w.uncertain[m.GetUserProperties()[nameProperty]] = true
			}
		}
	case *v2.AckMessageRequest:
		for _, e := range reply.(*v2.AckMessageResponse).GetEntries() {
			w.acks[e.GetReceiptHandle()] = e.GetStatus().GetCode()
		}
	}
	return err
}

func (w *wire) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, conn, method, opts...)
	if err != nil {
		return nil, err
	}
	return &watched{ClientStream: s, wire: w}, nil
}

// watched is a stream of which each message is looked at.
type watched struct {
	grpc.ClientStream
	wire *wire
}

func (s *watched) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	if r, ok := m.(*v2.ReceiveMessageResponse); ok && r.GetMessage() != nil {
		p := r.GetMessage().GetSystemProperties()
		// Nothing else tells the broker group: another than the one that was asked may answer.
		h, err := pop.ParseHandle(p.GetReceiptHandle())
		if err != nil {
			return err
		}
		s.wire.mu.Lock()
		s.wire.where[p.GetReceiptHandle()] = where{h.BrokerGroup, p.GetQueueId(), p.GetQueueOffset()}
		s.wire.mu.Unlock()
	}
	return nil
}

// definite tells whether no try of a message may have been stored.
func (w *wire) definite(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.uncertain[name]
}

// place returns where the message of a receipt handle is, and forgets it.
func (w *wire) place(handle string) where {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := w.where[handle]
	delete(w.where, handle)
	return at
}

// acked returns the code of an acknowledgement, and forgets it.
func (w *wire) acked(handle string) v2.Code {
	w.mu.Lock()
	defer w.mu.Unlock()
	code := w.acks[handle]
	delete(w.acks, handle)
	return code
}
