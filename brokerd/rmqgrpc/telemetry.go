package rmqgrpc

import (
	"context"
	"errors"
	"io"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	longPolling  = 20 * time.Second // what clients are told
	shortPolling = 5 * time.Second
)

// delays are RocketMQ's own for the second and later deliveries; the last one is repeated.
func delays() []*durationpb.Duration {
	var d []*durationpb.Duration
	for _, s := range []int{1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200} {
		d = append(d, durationpb.New(time.Duration(s)*time.Second))
	}
	return d
}

// settle returns what a client is to go by: its own settings with the server's values. A
// variant that does not fit the client's kind would be an error to it.
func (s *Server) settings(in *v2.Settings) (*v2.Settings, error) {
	out := proto.CloneOf(in)
	out.Metric = &v2.Metric{On: false}
	switch p := out.GetPubSub().(type) {
	case *v2.Settings_Publishing:
		out.BackoffPolicy = &v2.RetryPolicy{MaxAttempts: 3, Strategy: &v2.RetryPolicy_ExponentialBackoff{
			ExponentialBackoff: &v2.ExponentialBackoff{
				Initial: durationpb.New(10 * time.Millisecond), Max: durationpb.New(time.Second), Multiplier: 2,
			}}}
		p.Publishing.MaxBodySize = maxBody
		p.Publishing.ValidateMessageType = true
	case *v2.Settings_Subscription:
		fifo, batch := false, int32(maxBatch)
		out.BackoffPolicy = &v2.RetryPolicy{MaxAttempts: int32(s.cfg.MaxAttempts), Strategy: &v2.RetryPolicy_CustomizedBackoff{
			CustomizedBackoff: &v2.CustomizedBackoff{Next: delays()}}}
		p.Subscription.Fifo = &fifo
		p.Subscription.ReceiveBatchSize = &batch
		p.Subscription.LongPollingTimeout = durationpb.New(longPolling)
	default:
		return nil, refuse(v2.Code_UNRECOGNIZED_CLIENT_TYPE, "settings of client type %v name neither publishing nor subscription", in.GetClientType())
	}
	return out, nil
}

// Telemetry answers each of a client's settings with those that it is to go by.
func (s *Server) Telemetry(stream grpc.BidiStreamingServer[v2.TelemetryCommand, v2.TelemetryCommand]) error {
	id, err := client(stream.Context())
	if err != nil {
		return stream.Send(&v2.TelemetryCommand{Status: status(err)})
	}
	ctx, cancel := s.unlessStopping(stream.Context())
	defer cancel()
	commands := make(chan *v2.TelemetryCommand)
	failed := make(chan error, 1)
	// Recv has no context of its own: it returns when this call has.
	go func() {
		for {
			c, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case commands <- c:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case c := <-commands:
			s.clients.seen(id, time.Now())
			if c.GetSettings() == nil {
				continue // an answer to what this server never asks
			}
			out, err := s.settings(c.GetSettings())
			reply := &v2.TelemetryCommand{Status: status(err)}
			if err == nil {
				s.clients.timeout(id, c.GetSettings().GetRequestTimeout().AsDuration())
				reply.Command = &v2.TelemetryCommand_Settings{Settings: out}
			}
			if err := stream.Send(reply); err != nil {
				return err
			}
		}
	}
}

// Heartbeat says that a client is alive. One that is not known is told nothing else: it may
// have talked to another broker before, or to this one before a restart.
func (s *Server) Heartbeat(ctx context.Context, r *v2.HeartbeatRequest) (*v2.HeartbeatResponse, error) {
	id, err := client(ctx)
	if err == nil && r.GetGroup() != nil {
		_, err = groupName(r.GetGroup())
	}
	if err == nil {
		s.clients.seen(id, time.Now())
	}
	return &v2.HeartbeatResponse{Status: status(err)}, nil
}

// NotifyClientTermination says that a client is gone: what it has is no longer renewed.
func (s *Server) NotifyClientTermination(ctx context.Context, _ *v2.NotifyClientTerminationRequest) (*v2.NotifyClientTerminationResponse, error) {
	id, err := client(ctx)
	if err == nil {
		s.clients.gone(id)
	}
	return &v2.NotifyClientTerminationResponse{Status: status(err)}, nil
}
