package coordinator

import (
	"fmt"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/fsm"
)

// told is what the agent of one session has said of itself. It is shown to people
// and nothing else: no promise, fence or decision looks at it. It is memory of this
// coordinator alone, guarded by voterMu.
type told struct {
	fence   lease.FenceReport
	fenceAt lease.Time // when it came
	stallAt lease.Time // when its last stall was noted; 0 = never
}

// stallEvery is the shortest time between two stalls of one session in the log. An
// agent leaves 10 s between two reports; clocks differ in rate.
const stallEvery = 9 * time.Second

// noteFence keeps the newest report of a session. Called with the voter locked, and
// only for a renewal that was answered, so that no old copy of one can bring it back.
func (c *Coordinator) noteFence(now lease.Time, id fsm.SessionID, r lease.FenceReport) {
	if r.Kind == lease.FenceUntold {
		return
	}
	t := c.told[id]
	t.fence, t.fenceAt = r, now
	c.told[id] = t
}

// mayReportStall refuses a report that comes too soon after the one before, so that no
// agent can fill the log and the audit ring.
func (c *Coordinator) mayReportStall(id fsm.SessionID) error {
	now := c.Boottime()
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	if at := c.told[id].stallAt; at != 0 && now.Sub(at) < stallEvery {
		return &fsm.Refusal{Code: fsm.CodeInvalid,
			Message: fmt.Sprintf("session %d has reported a stall %v ago, at most one in %v is noted", id, now.Sub(at).Round(time.Millisecond), stallEvery)}
	}
	return nil
}

func (c *Coordinator) stallReported(id fsm.SessionID) {
	now := c.Boottime()
	c.mu.RLock()
	defer c.mu.RUnlock()
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	if _, open := c.state.Session(id); !open {
		return // it has ended since
	}
	t := c.told[id]
	t.stallAt = now
	c.told[id] = t
}

// showFence puts what the agent says of its fence into its status. The time left
// goes on since.
func (c *Coordinator) showFence(now lease.Time, id fsm.SessionID, a *pb.AgentStatus) {
	c.voterMu.Lock()
	defer c.voterMu.Unlock()
	t, ok := c.told[id]
	if !ok || t.fence.Kind == lease.FenceUntold {
		return
	}
	a.Fence, a.FenceDropped, a.FenceInterfaces = t.fence.Kind.String(), t.fence.Dropped, uint32(t.fence.Interfaces)
	a.FenceLeftMs = (t.fence.Left - now.Sub(t.fenceAt)).Milliseconds()
}
