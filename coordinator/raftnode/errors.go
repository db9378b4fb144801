package raftnode

import (
	"errors"
	"fmt"
)

var (
	// ErrNotLeader says that this node does not lead and that nothing was
	// appended: the caller may try elsewhere. A *NotLeaderError matches it.
	ErrNotLeader = errors.New("not the leader")
	// ErrUncertain says that an entry may have been appended and may yet
	// commit, or never: only the replicated state can tell.
	ErrUncertain = errors.New("outcome uncertain: the entry may commit later")
	// ErrRemoved is what Run returns after this node's removal from the
	// configuration has committed. Its directory must be wiped before it joins again.
	ErrRemoved = errors.New("removed from the configuration")
	// ErrLocked says that another process holds the data directory.
	ErrLocked = errors.New("locked by another process")
	// ErrHasState is returned by Bootstrap on a node that has Raft state.
	ErrHasState = errors.New("node has state already")
	// ErrStopped says that the node is not running: before Run, or after it.
	ErrStopped = errors.New("node is not running")
	// ErrUnknownServer says that no server of that name is in the configuration.
	ErrUnknownServer = errors.New("no such server in the configuration")
	// ErrChanging says that another change of leadership or of the configuration
	// is under way.
	ErrChanging = errors.New("another change of the configuration or of leadership is under way")
)

// NotLeaderError is ErrNotLeader with a hint where the leader may be.
type NotLeaderError struct {
	Leader  string // name, "" if unknown
	Address string // Raft address, "" if unknown
}

func (e *NotLeaderError) Error() string {
	if e.Leader == "" {
		return "not the leader; no leader known"
	}
	return fmt.Sprintf("not the leader; it is %s at %s", e.Leader, e.Address)
}

// Is makes errors.Is(err, ErrNotLeader) true.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// DamagedError names a file of the data directory that cannot be trusted.
// Nothing was changed. The remedy is to remove this node from the
// configuration, wipe its directory and let it join again.
type DamagedError struct {
	File   string
	Offset int64 // where in File, -1 if unknown
	Reason string
}

func (e *DamagedError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("damaged file %s: %s", e.File, e.Reason)
	}
	return fmt.Sprintf("damaged file %s: at byte %d: %s", e.File, e.Offset, e.Reason)
}
