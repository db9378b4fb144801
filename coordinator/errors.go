package coordinator

import (
	"errors"
	"fmt"
)

// ErrNoLeader: no leader is known here, so nothing can be changed.
var ErrNoLeader = errors.New("no leader: a majority of coordinators must be up and reach each other")

// ErrUncertain: the change was handed to the log, and whether it will commit is
// not known.
var ErrUncertain = errors.New("the leader was lost meanwhile: the change may be committed or not")

// NotLeaderError tells who leads instead.
type NotLeaderError struct {
	Leader string // name
	API    string // address, "" if unknown
}

func (e *NotLeaderError) Error() string {
	return fmt.Sprintf("not the leader; the leader is %s", e.Leader)
}

// notLeader returns the error that says who leads, or that nobody does.
func (c *Coordinator) notLeader() error {
	info := c.Log.Info()
	if info.Leader == "" || info.Leader == c.Name {
		return ErrNoLeader
	}
	return &NotLeaderError{Leader: info.Leader, API: c.endpoint(info.Leader).API}
}

// endpoint returns where a coordinator was last known to be.
func (c *Coordinator) endpoint(name string) Endpoint {
	for _, e := range c.Datagrams.Coordinators() {
		if e.Name == name {
			return e
		}
	}
	return Endpoint{Name: name}
}
