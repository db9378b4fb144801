package brokerd

import (
	"context"
	"errors"
	"fmt"

	"holdfast/brokerd/commitlog"
	"holdfast/brokerd/record"
	"holdfast/brokerd/replica"
	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/fsm/group"
)

// perform carries out acts of the replica, all of them, in their order. records are those
// of the message a that is being received, if one is. An error is fatal.
func (o *owner) perform(acts []replica.Act, records []byte, a *replica.Append) error {
	for _, act := range acts {
		if err := o.act(act, records, a); err != nil {
			return err
		}
	}
	return nil
}

func (o *owner) act(act replica.Act, records []byte, a *replica.Append) error {
	switch x := act.(type) {
	case replica.Store:
		return o.disk.store(x.Saved)
	case replica.SyncLog:
		return o.disk.log.Sync()
	case replica.Begin:
		return o.beginEpoch(x)
	case replica.Take:
		b, err := o.disk.take(records[x.From-a.From : x.To-a.From])
		if err != nil {
			return err
		}
		o.taken = append(o.taken, b)
		return nil
	case replica.CutLog:
		return o.cutLog(x)
	case replica.Discard:
		return o.discard(x)
	case replica.Rebase:
		return o.rebase(x)
	case replica.Send:
		o.send(x.To, x.Message)
	case replica.Propose:
		o.proposeCommand(x.Command)
	default:
		return fmt.Errorf("act %T is not known", act)
	}
	return nil
}

// beginEpoch appends the record that starts an epoch.
func (o *owner) beginEpoch(x replica.Begin) error {
	log := o.disk.log
	if log.End() != x.Offset {
		return fmt.Errorf("begin epoch %d: the log ends at %d, and should end at %d", x.Epoch, log.End(), x.Offset)
	}
	entries := []commitlog.Entry{{Header: record.Header{Kind: record.KindStart}}}
	b, err := log.Append(x.Epoch, o.edges.Clock.Wall(), entries)
	if err == nil {
		err = errors.Join(log.Commit(), b.Wait(context.Background()))
	}
	if err != nil {
		return fmt.Errorf("begin epoch %d: %w", x.Epoch, err)
	}
	o.disk.consumers.at = log.End()
	return o.perform(o.replica.Synced(log.Durable()), nil, nil)
}

// take appends records of the master. They are committed by the next sync.
func (d *disk) take(records []byte) (*commitlog.Batch, error) {
	if damage := d.log.Damage(); damage != nil {
		// The replica owes a return, or has returned: what lies behind the damage is on the
		// other replicas, and stays here in files of its own.
		if err := d.cutLog(d.log.End()); err != nil {
			return nil, err
		}
	}
	b, err := d.log.AppendRaw(records)
	if err != nil {
		return nil, fmt.Errorf("take records: %w", err)
	}
	if err := d.consumers.follow(records); err != nil {
		return nil, err
	}
	return b, nil
}

// cutLog cuts the log, and says what went where.
func (d *disk) cutLog(at uint64) error {
	kept, err := d.log.Cut(at)
	for _, k := range kept {
		d.logger.Warn("cut off from the log, and kept in a file", "from", k.From, "to", k.To, "file", k.File)
	}
	return err
}

// cutLog: what is cut is noted before it is cut. A crash in between leaves a tail that is
// noted and still there; the next contact cuts it again, and a range counts once.
func (o *owner) cutLog(x replica.CutLog) error {
	end := o.disk.log.End()
	if err := o.disk.note(x.Ranges); err != nil {
		return err
	}
	if err := o.disk.cutLog(x.At); err != nil {
		return err
	}
	return o.disk.consumers.cut(x.At, end)
}

// discard does as cutLog does, with the whole log.
func (o *owner) discard(x replica.Discard) error {
	if err := o.disk.note(x.Ranges); err != nil {
		return err
	}
	first := o.disk.log.First()
	if err := o.disk.cutLog(first); err != nil {
		return err
	}
	if first > 0 {
		if err := o.disk.log.Install(&commitlog.Preface{}); err != nil {
			return err
		}
	}
	return o.disk.consumers.install(nil)
}

// rebase lets the empty log begin where the master's does.
func (o *owner) rebase(x replica.Rebase) error {
	p := o.parcel
	o.parcel = nil
	if p == nil || p.preface.Base != x.At {
		return fmt.Errorf("begin a log at %d: the master has not told what is before", x.At)
	}
	if err := o.disk.log.Install(p.preface); err != nil {
		return err
	}
	o.log.Info("the log begins anew, behind what the master has deleted", "at", x.At)
	return o.disk.consumers.install(p.snapshot)
}

// send sends a message of the replica. One that begins a log brings what that needs.
func (o *owner) send(to string, m replica.Message) {
	b, err := replica.Marshal(m)
	if err != nil {
		o.log.Error("message cannot be sent", "to", to, "err", err)
		return
	}
	var along []byte
	if answer, ok := m.(replica.Answer); ok && answer.Reset && answer.Base > 0 {
		if along, err = o.disk.parcel(); err != nil {
			o.log.Error("a new member cannot begin its log: what is before is not known", "to", to, "err", err)
			return
		}
	}
	o.edges.Peers.Send(to, b, along)
}

// proposeCommand sends a command to the quorum. It may be lost: the replica repeats it.
func (o *owner) proposeCommand(c group.Command) {
	if o.session == nil {
		return
	}
	id, name, groups := o.session.id, o.config.Group, o.edges.Groups
	switch x := c.(type) {
	case group.End:
		r := &pb.ReleaseGroupRequest{Session: id, Group: name, Epoch: x.Epoch, Unfit: o.unfit}
		o.propose("release", func(ctx context.Context) error { _, err := groups.ReleaseGroup(ctx, r); return err })
	case group.Grow:
		r := &pb.GrowInSyncRequest{Session: id, Group: name, Epoch: x.Epoch, Version: x.Version, Member: x.Member, Incarnation: x.Incarnation}
		o.propose("grow", func(ctx context.Context) error { _, err := groups.GrowInSync(ctx, r); return err })
	case group.Shrink:
		o.log.Warn("a member is behind: it is taken out of the in-sync set", "member", x.Member)
		r := &pb.ShrinkInSyncRequest{Session: id, Group: name, Epoch: x.Epoch, Version: x.Version, Member: x.Member}
		o.propose("shrink", func(ctx context.Context) error { _, err := groups.ShrinkInSync(ctx, r); return err })
	case group.Return:
		r := &pb.ReturnReplicaRequest{Session: id, Group: name, Incarnation: x.Incarnation, Boot: x.Boot, Cause: o.disk.cause()}
		o.propose("return", func(ctx context.Context) error { _, err := groups.ReturnReplica(ctx, r); return err })
	default:
		o.log.Error("command is not known", "command", fmt.Sprintf("%T", c))
	}
}

// cause says why a replica returns.
func (d *disk) cause() string {
	switch {
	case d.recovery.Damage != nil:
		return "its log is damaged"
	case d.recovery.New || !d.found:
		return "its disk was empty"
	case d.recovery.Async && !d.recovery.Clean:
		return "an unclean stop with flush async"
	case d.consumers.lost:
		return "the consumers' state is lost"
	}
	return "its log has less than it had acknowledged"
}
