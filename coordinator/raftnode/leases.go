package raftnode

import "time"

// LeaseStore keeps what a coordinator must not forget about leases: the
// sessions that it has marked as fenced, and the longest TTL that it ever
// promised. Each change is on disk when the call returns. Safe for concurrent
// use.
type LeaseStore struct{}

// OpenLeaseStore opens the lease file of a data directory; Open of the same
// directory must hold its lock. A file that is missing from a used directory,
// damaged or cut short gives a *DamagedError: lost marks would be unsafe.
func OpenLeaseStore(dir string) (*LeaseStore, error) { return nil, ErrStopped }

// Marks returns the marked sessions in rising order.
func (s *LeaseStore) Marks() []uint64 { return nil }

// Mark adds marks, with one sync for all. After an error the store is of no
// more use: what is on disk is unknown until it is opened again.
func (s *LeaseStore) Mark(sessions ...uint64) error { return nil }

// Unmark deletes marks; unknown ones are no error.
func (s *LeaseStore) Unmark(sessions ...uint64) error { return nil }

// LongestTTL is the longest TTL ever stored, 0 if none.
func (s *LeaseStore) LongestTTL() time.Duration { return 0 }

// SetLongestTTL stores a longer TTL; it never lowers it.
func (s *LeaseStore) SetLongestTTL(ttl time.Duration) error { return nil }
