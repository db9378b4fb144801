package client

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrNoCoordinator: no coordinator's API address is known.
var ErrNoCoordinator = errors.New("no coordinator is known")

// RefusedError is the quorum's answer: it understood the request and will not
// do it. Asking again, or another coordinator, is of no use.
type RefusedError struct {
	Code    codes.Code
	Message string
}

func (e *RefusedError) Error() string { return "refused: " + e.Message }

// Refused says that the error is final.
func (e *RefusedError) Refused() bool { return true }

// asRefused returns the refusal in an error of gRPC. All other errors say that
// something did not work this time, or that the outcome is unknown.
func asRefused(err error) (*RefusedError, bool) {
	s, ok := status.FromError(err)
	if !ok {
		return nil, false
	}
	switch s.Code() {
	case codes.NotFound, codes.InvalidArgument, codes.Aborted, codes.FailedPrecondition, codes.AlreadyExists, codes.Unimplemented:
		return &RefusedError{s.Code(), s.Message()}, true
	}
	return nil, false
}
