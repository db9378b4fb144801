package vipagent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/vipagent/fault"
	"holdfast/vipagent/tenure"
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
	releases                            map[tenure.Key]*task
	removals                            map[tenure.Retired]*task
	closeBusy                           map[uint64]bool
	opening, rebind, reporting          bool
	openAt, rebindAt, reportAt, closeAt lease.Time // not before then
	useless                             int        // sessions in a row that ended without ever having had a lease, see maxUseless
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
		releases: make(map[tenure.Key]*task), removals: make(map[tenure.Retired]*task),
		closeBusy: make(map[uint64]bool),
	}
}

func (t *tasks) releasing(g tenure.Grant) bool    { return t.releases[g.Key()] != nil }
func (t *tasks) confirming(r tenure.Retired) bool { return t.removals[r] != nil }

func (t *tasks) release(g tenure.GiveUp, now lease.Time) {
	t.releases[g.Key()] = &task{cause: g.Cause, queued: now}
}

func (t *tasks) confirm(r tenure.Retired, now lease.Time) { t.removals[r] = &task{queued: now} }

// carries says whether a release is under way that says why the set is
// released, so that it need not be reported as well.
func (t *tasks) carries(set string) bool {
	for key, k := range t.releases {
		if key.Set == set && k.done == 0 {
			return true
		}
	}
	return false
}

// prune forgets what the views no longer show, or still show long after it was
// answered, so that it is done again.
func (t *tasks) prune(v *tenure.View, now lease.Time) {
	over := func(k *task) bool { return k.done != 0 && now.Sub(k.done) >= doneFor }
	for key, k := range t.releases {
		shown := slices.ContainsFunc(v.Grants, func(g tenure.Grant) bool { return g.Key() == key })
		if !k.busy && (!shown || over(k)) {
			delete(t.releases, key)
		}
	}
	for r, k := range t.removals {
		if !k.busy && (!slices.Contains(v.Retiring, r) || over(k)) {
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
	o.tasks.prune(o.book.View(), now)
	o.sendReleases(now)
	o.sendRemovals(now)
	o.sendConditions(now)
	o.sendStall(now)
	o.sendRouters(now)
	o.openSession(now)
	o.sendRebind(now)
	o.sendCloses(now)
}

// sendReleases puts all releases of a session that are ready into one request,
// with the conditions that caused them.
func (o *owner) sendReleases(now lease.Time) {
	requests := make(map[uint64]*pb.ReleaseRequest)
	batch := make(map[uint64][]*task)
	for _, g := range o.book.View().Grants { // in the order of sets
		k := o.tasks.releases[g.Key()]
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
			fault.Point(fault.Send)
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
	if err == nil && r.Session == o.book.Current().ID {
		o.fitness.told(now, r.Conditions)
	}
}

// sendRemovals confirms addresses that left a set.
func (o *owner) sendRemovals(now lease.Time) {
	requests := make(map[uint64]*pb.ConfirmRemovalRequest)
	batch := make(map[uint64][]*task)
	for _, row := range o.book.View().Retiring {
		k := o.tasks.removals[row]
		if k == nil || k.busy || k.done != 0 {
			continue
		}
		if now < k.at {
			o.wakeBy(k.at)
			continue
		}
		k.busy = true
		r := requests[row.Session]
		if r == nil {
			r = &pb.ConfirmRemovalRequest{Session: row.Session}
			requests[row.Session] = r
		}
		r.Removed = append(r.Removed, &pb.Retiring{Address: row.Address.String(), Claim: row.Claim, Session: row.Session, Set: row.Set})
		batch[row.Session] = append(batch[row.Session], k)
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
	sets := slices.Clone(o.candidateOf)
	for _, g := range o.book.View().Grants {
		if o.book.Ours(g.Session) {
			sets = append(sets, g.Set)
		}
	}
	slices.Sort(sets)
	return slices.Compact(sets)
}

// sendConditions reports what has changed.
func (o *owner) sendConditions(now lease.Time) {
	if o.current() == nil || o.tasks.reporting || !o.book.Viewed() {
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
	session := o.book.Current().ID
	o.call(callLimit, func(ctx context.Context) func() {
		_, err := o.edges.Grants.ReportCondition(ctx, &pb.ReportConditionRequest{Session: session, Conditions: changed})
		return func() {
			o.tasks.reporting = false
			switch {
			case err == nil && o.book.Current().ID == session:
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
