package rmqgrpc

import (
	"context"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/grpc"
)

// unserved is the answer to calls of the service that are not served: as a status, since
// clients take an error of gRPC for a broken broker.
func unserved(what string) *v2.Status {
	return status(refuse(v2.Code_NOT_IMPLEMENTED, "%s is not implemented", what))
}

// PullMessage is not served.
func (s *Server) PullMessage(_ *v2.PullMessageRequest, stream grpc.ServerStreamingServer[v2.PullMessageResponse]) error {
	return stream.Send(&v2.PullMessageResponse{Content: &v2.PullMessageResponse_Status{Status: unserved("PullMessage")}})
}

// UpdateOffset is not served.
func (s *Server) UpdateOffset(context.Context, *v2.UpdateOffsetRequest) (*v2.UpdateOffsetResponse, error) {
	return &v2.UpdateOffsetResponse{Status: unserved("UpdateOffset")}, nil
}

// GetOffset is not served.
func (s *Server) GetOffset(context.Context, *v2.GetOffsetRequest) (*v2.GetOffsetResponse, error) {
	return &v2.GetOffsetResponse{Status: unserved("GetOffset")}, nil
}

// QueryOffset is not served.
func (s *Server) QueryOffset(context.Context, *v2.QueryOffsetRequest) (*v2.QueryOffsetResponse, error) {
	return &v2.QueryOffsetResponse{Status: unserved("QueryOffset")}, nil
}

// EndTransaction is not served: no transaction can have begun.
func (s *Server) EndTransaction(context.Context, *v2.EndTransactionRequest) (*v2.EndTransactionResponse, error) {
	return &v2.EndTransactionResponse{Status: unserved("EndTransaction")}, nil
}

// RecallMessage is not served: there are no delayed messages.
func (s *Server) RecallMessage(context.Context, *v2.RecallMessageRequest) (*v2.RecallMessageResponse, error) {
	return &v2.RecallMessageResponse{Status: unserved("RecallMessage")}, nil
}
