package brokerd

import (
	"context"
	"time"

	"holdfast/brokerd/replica"
	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
)

// Role is what a replica is to its group.
type Role string

// The roles.
const (
	RoleStarting  Role = "starting"  // it has no session yet, or does not know its group
	RoleMaster    Role = "master"    // it leads, or led last and has not heard of another epoch
	RoleFollower  Role = "follower"  // it follows, or waits for a master
	RoleReturning Role = "returning" // it has less than it had acknowledged, and the quorum does not know yet
	RoleStranger  Role = "stranger"  // its group does not name it as a member
)

// Status is how a replica stands. It is a value that is not changed.
type Status struct {
	Broker, Group string
	Role          Role
	Session       uint64
	Deadline      lease.Time // CLOCK_BOOTTIME
	Epoch         uint64     // the highest that it has seen
	LastEpoch     uint64     // of its last record
	// Offsets of the log, in bytes.
	First, End, Durable, Confirm uint64
	Lost                         uint64 // bytes that were cut anywhere and are not in the master's log
	Unknown                      uint64 // bytes, at most, on replicas that are not back
	Unfit                        string // why it should not be master; "" = it may be
}

// Status returns how the replica stands.
func (b *Broker) Status() Status { return *b.status.Load() }

// show publishes the status.
func (o *owner) show() {
	s := Status{Broker: o.config.Name, Group: o.config.Group, Role: RoleStarting, Deadline: o.deadline()}
	if o.session != nil {
		s.Session = o.session.id
	}
	if r := o.replica; r != nil {
		log, saved := r.Log(), r.Saved()
		s.Epoch, s.LastEpoch, s.First, s.End, s.Durable, s.Confirm = saved.Epoch, log.Last(), log.Base, log.End, r.Durable(), r.Confirm()
		s.Role = o.role(saved)
		s.Lost, s.Unknown = sizes(o.loss)
	}
	if o.disk.log.Low() {
		s.Unfit = "its disk is full"
	}
	o.unfit = s.Unfit
	o.status.Store(&s)
}

func (o *owner) role(saved replica.Saved) Role {
	_, member := o.seen.record.Member(o.config.Name)
	switch {
	case !o.seen.exists:
		return RoleStarting
	case !member:
		return RoleStranger
	case saved.Owes:
		return RoleReturning
	case o.replica.Leads() != 0:
		return RoleMaster
	}
	return RoleFollower
}

func sizes(l replica.Loss) (lost, unknown uint64) {
	for _, r := range l.Lost {
		lost += r.To - r.From
	}
	for _, u := range l.Unknown {
		unknown += u.To - u.From
	}
	return lost, unknown
}

// reportEvery is how often coordinators are told how the replica stands.
const reportEvery = 500 * time.Millisecond

// report tells them until ctx ends.
func (b *Broker) report(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := b.Status()
		if s.Session == 0 || s.Role == RoleStarting {
			continue
		}
		b.edges.Reports.Report(ctx, &pb.ReportRequest{Session: s.Session, Groups: []*pb.GroupReport{{
			Group: s.Group, Role: string(s.Role), Epoch: s.Epoch, LastEpoch: s.LastEpoch, Start: s.First, End: s.End, Durable: s.Durable,
			Confirm: s.Confirm, LostBytes: s.Lost, UnknownBytes: s.Unknown, Unfit: s.Unfit,
		}}})
	}
}
