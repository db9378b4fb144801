package vipagent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
)

const (
	// callLimit bounds one call; it is made again if it is still needed.
	callLimit = 2 * time.Second
	// retryCall is the pause after a call that did not work.
	retryCall = 50 * time.Millisecond
	// doneFor is how long an answered release or confirmation counts as done
	// while views still show what it was for. Repeating it does no harm.
	doneFor = 3 * time.Second
)

// tasks is what the owner has asked of the quorum, or is about to.
type tasks struct {
	releases                            map[releaseKey]*task
	removals                            map[retired]*task
	closing                             map[uint64]string // sessions to be closed, with the cause
	closeBusy                           map[uint64]bool
	opening, rebind, reporting          bool
	openAt, rebindAt, reportAt, closeAt lease.Time // not before then
	useless                             int        // sessions in a row that ended without ever having had a lease, see maxUseless
}

// releaseKey names one grant under one session. After a Rebind the same grant
// under the new session is another task.
type releaseKey struct {
	set            string
	session, epoch uint64
}

type task struct {
	cause  string
	queued lease.Time
	busy   bool       // a call is under way
	done   lease.Time // answered; 0 = not
	at     lease.Time // next try, not before
}

func newTasks() tasks {
	return tasks{
		releases: make(map[releaseKey]*task), removals: make(map[retired]*task),
		closing: make(map[uint64]string), closeBusy: make(map[uint64]bool),
	}
}

func keyOf(g grant) releaseKey { return releaseKey{g.Set, g.Session, g.Epoch} }

func (t *tasks) releasing(g grant) bool    { return t.releases[keyOf(g)] != nil }
func (t *tasks) confirming(r retired) bool { return t.removals[r] != nil }

func (t *tasks) release(g giveUp, now lease.Time) {
	t.releases[keyOf(g.grant)] = &task{cause: g.cause, queued: now}
}

func (t *tasks) confirm(r retired, now lease.Time) { t.removals[r] = &task{queued: now} }

// carries says whether a release is under way that says why the set is
// released, so that it need not be reported as well.
func (t *tasks) carries(set string) bool {
	for key, k := range t.releases {
		if key.set == set && k.done == 0 {
			return true
		}
	}
	return false
}

// prune forgets what the views no longer show, or still show long after it was
// answered, so that it is done again.
func (t *tasks) prune(v view, now lease.Time) {
	over := func(k *task) bool { return k.done != 0 && now.Sub(k.done) >= doneFor }
	for key, k := range t.releases {
		shown := slices.ContainsFunc(v.grants, func(g grant) bool { return keyOf(g) == key })
		if !k.busy && (!shown || over(k)) {
			delete(t.releases, key)
		}
	}
	for r, k := range t.removals {
		if !k.busy && (!slices.Contains(v.retiring, r) || over(k)) {
			delete(t.removals, r)
		}
	}
}

// refused says whether an error is the quorum's answer, so that asking again
// is of no use.
func refused(err error) bool {
	var r interface{ Refused() bool }
	return errors.As(err, &r) && r.Refused()
}

// call runs f beside the owner, within limit, and what it returns in the owner.
func (o *owner) call(limit time.Duration, f func(ctx context.Context) (done func())) {
	o.wg.Go(func() {
		ctx, cancel := context.WithTimeout(o.work, limit)
		defer cancel()
		o.inbox.putResult(f(ctx))
	})
}

// finish notes how a call for some tasks went.
func (o *owner) finish(ks []*task, err error) {
	now := o.now()
	for _, k := range ks {
		k.busy = false
		if err == nil || refused(err) {
			k.done = now
		} else {
			k.at = now.Add(retryCall)
		}
	}
}

// settle starts the calls that are needed. Nothing that has to be down is up
// any more when it runs.
func (o *owner) settle(now lease.Time) {
	o.tasks.prune(o.view, now)
	o.sendReleases(now)
	o.sendRemovals(now)
	o.sendConditions(now)
	o.sendStall(now)
	o.openSession(now)
	o.sendRebind(now)
	o.sendCloses(now)
}

// sendReleases puts all releases of a session that are ready into one request,
// with the conditions that caused them.
func (o *owner) sendReleases(now lease.Time) {
	requests := make(map[uint64]*pb.ReleaseRequest)
	batch := make(map[uint64][]*task)
	for _, g := range o.view.grants { // in the order of sets
		k := o.tasks.releases[keyOf(g)]
		if k == nil || k.busy || k.done != 0 {
			continue
		}
		if now < k.at {
			o.wakeBy(k.at)
			continue
		}
		k.busy = true
		r := requests[g.Session]
		if r == nil {
			r = &pb.ReleaseRequest{Session: g.Session}
			requests[g.Session] = r
		}
		r.Releases = append(r.Releases, &pb.Release{Set: g.Set, Epoch: g.Epoch})
		if c := o.fitness.of(g.Set); c.Veto {
			r.Conditions = append(r.Conditions, toPB(g.Set, c))
		}
		if !strings.Contains(r.Cause, k.cause) {
			r.Cause = strings.TrimPrefix(r.Cause+"; "+k.cause, "; ")
		}
		batch[g.Session] = append(batch[g.Session], k)
	}
	for session, r := range requests {
		ks := batch[session]
		o.call(callLimit, func(ctx context.Context) func() {
			_, err := o.edges.Grants.Release(ctx, r)
			return func() { o.released(r, ks, err) }
		})
	}
}

func (o *owner) released(r *pb.ReleaseRequest, ks []*task, err error) {
	o.finish(ks, err)
	now := o.now()
	for i, rel := range r.Releases {
		if err != nil {
			o.journal.warn("not released", "set", rel.Set, "epoch", rel.Epoch, "final", refused(err), "err", err)
			continue
		}
		o.journal.info("released", "set", rel.Set, "epoch", rel.Epoch, "cause", r.Cause, "took", now.Sub(ks[i].queued))
	}
	if err == nil && o.cur != nil && r.Session == o.cur.ID {
		o.fitness.told(now, r.Conditions)
	}
}

// sendRemovals confirms addresses that left a set.
func (o *owner) sendRemovals(now lease.Time) {
	requests := make(map[uint64]*pb.ConfirmRemovalRequest)
	batch := make(map[uint64][]*task)
	for _, row := range o.view.retiring {
		k := o.tasks.removals[row]
		if k == nil || k.busy || k.done != 0 {
			continue
		}
		if now < k.at {
			o.wakeBy(k.at)
			continue
		}
		k.busy = true
		r := requests[row.session]
		if r == nil {
			r = &pb.ConfirmRemovalRequest{Session: row.session}
			requests[row.session] = r
		}
		r.Removed = append(r.Removed, &pb.Retiring{Address: row.address.String(), Claim: row.claim, Session: row.session, Set: row.set})
		batch[row.session] = append(batch[row.session], k)
	}
	for session, r := range requests {
		ks := batch[session]
		o.call(callLimit, func(ctx context.Context) func() {
			_, err := o.edges.Grants.ConfirmRemoval(ctx, r)
			return func() {
				o.finish(ks, err)
				if err != nil {
					o.journal.warn("removal not confirmed", "addresses", len(r.Removed), "final", refused(err), "err", err)
				}
			}
		})
	}
}

// concerned returns the sets that conditions are reported for.
func (o *owner) concerned() []string {
	sets := slices.Clone(o.view.candidateOf)
	for _, g := range o.view.grants {
		if o.slotOf(g.Session) != nil {
			sets = append(sets, g.Set)
		}
	}
	slices.Sort(sets)
	return slices.Compact(sets)
}

// sendConditions reports what has changed.
func (o *owner) sendConditions(now lease.Time) {
	if o.cur == nil || o.tasks.reporting || !o.viewed {
		return
	}
	sets := slices.DeleteFunc(o.concerned(), o.tasks.carries)
	changed := o.fitness.unreported(now, sets)
	if len(changed) == 0 {
		return
	}
	if now < o.tasks.reportAt {
		o.wakeBy(o.tasks.reportAt)
		return
	}
	o.tasks.reporting = true
	session := o.cur.ID
	o.call(callLimit, func(ctx context.Context) func() {
		_, err := o.edges.Grants.ReportCondition(ctx, &pb.ReportConditionRequest{Session: session, Conditions: changed})
		return func() {
			o.tasks.reporting = false
			switch {
			case err == nil && o.cur != nil && o.cur.ID == session:
				o.fitness.told(o.now(), changed)
				o.fitness.unsure = o.fitness.unsure && o.fitness.pending()
			case err != nil:
				pause := retryCall
				if refused(err) { // a set of that name is gone, say: the next view will tell
					pause = lookEvery
				}
				o.tasks.reportAt = o.now().Add(pause)
				o.journal.warn("conditions not reported", "err", err)
			}
		}
	})
}
