package api

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/coordinator"
	"holdfast/fsm"
)

// toStatus is the only place where an error becomes a gRPC code.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	var refusal *fsm.Refusal
	var notLeader *coordinator.NotLeaderError
	code := codes.Unknown
	switch {
	case errors.As(err, &refusal):
		code = refusalCode(refusal.Code)
	case errors.As(err, &notLeader), errors.Is(err, coordinator.ErrNoLeader), errors.Is(err, coordinator.ErrUncertain):
		code = codes.Unavailable
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	}
	return status.Error(code, err.Error())
}

func refusalCode(c fsm.Code) codes.Code {
	switch c {
	case fsm.CodeNotFound:
		return codes.NotFound
	case fsm.CodeInvalid:
		return codes.InvalidArgument
	case fsm.CodeStale:
		return codes.Aborted
	default:
		return codes.FailedPrecondition
	}
}
