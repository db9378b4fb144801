package rmqgrpc

import (
	"context"
	"errors"
	"fmt"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"

	"holdfast/brokerd/pop"
	"holdfast/brokerd/service"
)

// refusal is a request that is wrong by itself.
type refusal struct {
	code v2.Code
	text string
}

func (r *refusal) Error() string { return r.text }

func refuse(code v2.Code, format string, args ...any) error {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// remote is what another broker answered.
type remote struct{ status *v2.Status }

func (r *remote) Error() string { return r.status.GetMessage() }

// code is the only place where errors become RocketMQ's codes.
func code(err error) v2.Code {
	var r *refusal
	var other *remote
	switch {
	case err == nil:
		return v2.Code_OK
	case errors.As(err, &r):
		return r.code
	case errors.As(err, &other):
		return other.status.GetCode()
	case errors.Is(err, service.ErrNotMaster):
		return v2.Code_HA_NOT_AVAILABLE
	case errors.Is(err, service.ErrBusy), errors.Is(err, pop.ErrTooMany):
		return v2.Code_TOO_MANY_REQUESTS
	case errors.Is(err, service.ErrNoTopic):
		return v2.Code_TOPIC_NOT_FOUND
	case errors.Is(err, service.ErrTooLarge):
		return v2.Code_MESSAGE_BODY_TOO_LARGE
	case errors.Is(err, service.ErrUnconfirmed):
		return v2.Code_SLAVE_PERSISTENCE_TIMEOUT
	case errors.Is(err, service.ErrUnsynced):
		return v2.Code_MASTER_PERSISTENCE_TIMEOUT
	case errors.Is(err, service.ErrUnanswered), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return v2.Code_PROXY_TIMEOUT
	case errors.Is(err, pop.ErrFilter):
		return v2.Code_ILLEGAL_FILTER_EXPRESSION
	}
	return v2.Code_INTERNAL_SERVER_ERROR
}

func status(err error) *v2.Status {
	if err == nil {
		return &v2.Status{Code: v2.Code_OK, Message: "OK"}
	}
	return &v2.Status{Code: code(err), Message: err.Error()}
}

// definite tells whether an error, here or as another broker said it, means that nothing
// was stored.
func definite(err error) bool {
	var r *refusal
	var other *remote
	switch {
	case errors.As(err, &r):
		return true
	case errors.As(err, &other):
		c := other.status.GetCode()
		return c == v2.Code_HA_NOT_AVAILABLE || c >= 40000 && c < 50000
	}
	return service.Definite(err)
}

// elsewhere tells whether another group, or a later master, may take what was refused.
func elsewhere(err error) bool {
	c := code(err)
	return definite(err) && (c == v2.Code_HA_NOT_AVAILABLE || c == v2.Code_TOO_MANY_REQUESTS || c == v2.Code_TOPIC_NOT_FOUND)
}

// verdict is what a receipt handle that does nothing is told.
func verdict(v pop.Verdict) error {
	if v == pop.Stale {
		return refuse(v2.Code_INVALID_RECEIPT_HANDLE, "the receipt handle is not good any more: the message was delivered again, or its invisible time was changed")
	}
	return nil
}
