package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/coordinator/lease"
)

// shortestTimeout is the longest jiffy that there is: the kernel makes one of
// what is shorter, and would close late.
const shortestTimeout = 10 * time.Millisecond

// nftSlot is the deadline of a session.
type nftSlot struct {
	fence   *NFTFence
	session uint64
	number  uint32
	renewal []message
	closing []message

	mu       sync.Mutex
	freed    bool
	deadline lease.Time
	held     lease.Time // the last one that the kernel took
	err      error      // of the last renewal
}

// prepare builds the messages, in which a renewal changes the times only.
func (s *nftSlot) prepare() {
	s.renewal, s.closing = nil, nil
	e := []nftElement{{key: slotKey(s.number), comment: fmt.Sprintf(sessionFormat, s.session), left: time.Millisecond}}
	key := []nftElement{{key: slotKey(s.number)}}
	for _, set := range s.fence.sets {
		if !set.timed {
			continue
		}
		add := set.elements(unix.NFT_MSG_NEWSETELEM, e)
		// What is not there cannot be deleted.
		s.closing = append(append(s.closing, add...), set.elements(unix.NFT_MSG_DELSETELEM, key)...)
		if !s.fence.inPlace {
			s.renewal = append(append(s.renewal, add...), set.elements(unix.NFT_MSG_DELSETELEM, key)...)
		}
		s.renewal = append(s.renewal, set.elements(unix.NFT_MSG_NEWSETELEM, e)...)
	}
}

// store sets the deadline in the kernel. Once the slot is freed it does nothing.
func (s *nftSlot) store(deadline lease.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.freed {
		return
	}
	s.deadline = deadline
	if s.err = s.write(); s.err != nil {
		select {
		case s.fence.lost <- struct{}{}:
		default:
		}
	}
}

// restore writes the deadline once more, if it lies ahead, for a kernel that does
// not have it.
func (s *nftSlot) restore() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = nil
	if !s.freed && s.deadline > Boottime() {
		s.err = s.write()
	}
	return s.err
}

// write tells the kernel how much time is left. The clock is read when nothing is
// left to wait for but the kernel, and once more when the kernel has the time: if
// we were stopped in between until after the deadline, the slot is open now.
func (s *nftSlot) write() error {
	c := s.fence.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	left := s.deadline.Sub(s.fence.clock())
	if left < shortestTimeout {
		s.held = 0
		return c.transactLocked(s.closing)
	}
	for _, m := range s.renewal {
		if m.kind == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWSETELEM {
			patchLeft(m, min(left, longestTimeout))
		}
	}
	err := c.transactLocked(s.renewal)
	if err == nil {
		s.held = s.deadline
	}
	if s.fence.clock() >= s.deadline {
		return errors.Join(err, c.transactLocked(s.closing))
	}
	return err
}

// free closes the slot for good.
func (s *nftSlot) free() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freed, s.deadline, s.held, s.err = true, 0, 0, nil
	if err := s.fence.conn.transact(s.closing); err != nil && !errors.Is(err, unix.ENOENT) { // without tables nothing is open by it
		return fmt.Errorf("close session %d: %w", s.session, err)
	}
	return nil
}

// retire makes the renewals that are still to come do nothing.
func (s *nftSlot) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freed = true
}

func (s *nftSlot) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func slotKey(number uint32) string { return string(binary.BigEndian.AppendUint32(nil, number)) }

// taken returns the last deadline that the kernel took.
func (s *nftSlot) taken() lease.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}
