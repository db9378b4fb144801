package vipagent

import (
	"strings"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/vipagent/tenure"
)

const (
	// addPatience is how long a set may fail to be raised before it is given up.
	addPatience = time.Second
	// obstacleFirst and obstacleMost bound after how long a set that this host
	// could not hold is tried again although nothing seems to have changed: an
	// edit of a set is not seen by hosts that do not hold it.
	obstacleFirst = time.Minute
	obstacleMost  = time.Hour
	// reasonEvery bounds how often a change of words alone is reported.
	reasonEvery = 5 * time.Second
	// pendingPatience bounds how long the first session waits for health
	// checks that have no result yet.
	pendingPatience = 2 * time.Second
)

// fitness is what speaks for and against this host as a holder.
type fitness struct {
	unfit      string               // why this host must hold nothing; "" = it may
	health     map[string]Condition // by set, "" = all that are not named
	obstacles  map[string]obstacle  // by set
	occupied   map[string]string    // by shared set: another program on this host has its addresses
	tries      map[string]int       // obstacles met since the set was last raised
	failed     map[string]lease.Time
	reported   map[string]Condition // what the quorum knows, by set
	reportedAt lease.Time
	// unsure: the quorum may know what a former process has reported, so
	// neutral conditions have to be reported as well.
	unsure bool
}

// obstacle is a reason on this host itself why it cannot hold a set.
type obstacle struct {
	grant  tenure.Grant // as it was
	reason string
	where  bool // the addresses have no place: gone as soon as they have one
	until  lease.Time
}

func newFitness() fitness {
	return fitness{
		obstacles: make(map[string]obstacle), occupied: make(map[string]string), tries: make(map[string]int),
		failed: make(map[string]lease.Time), reported: make(map[string]Condition),
	}
}

// of returns all that is to be said of one set.
func (f *fitness) of(set string) Condition {
	var out Condition
	var reasons []string
	add := func(c Condition) {
		out.Weight += c.Weight
		out.Veto = out.Veto || c.Veto
		out.Pending = out.Pending || c.Pending
		if c.Reason != "" {
			reasons = append(reasons, c.Reason)
		}
	}
	if c, ok := f.health[set]; ok {
		add(c)
	} else {
		add(f.health[""])
	}
	if f.unfit != "" {
		add(Condition{Veto: true, Reason: f.unfit})
		out.Pending = false
	}
	if o, ok := f.obstacles[set]; ok {
		add(Condition{Veto: true, Reason: o.reason})
		out.Pending = false
	}
	if reason := f.occupied[set]; reason != "" {
		add(Condition{Veto: true, Reason: reason})
		out.Pending = false
	}
	out.Reason = strings.Join(reasons, "; ")
	return out
}

// pending says whether some check has no result yet.
func (f *fitness) pending() bool {
	for _, c := range f.health {
		if c.Pending {
			return true
		}
	}
	return false
}

// impede notes that this host cannot hold a set.
func (f *fitness) impede(now lease.Time, b obstacle) {
	g := b.grant
	wait := min(obstacleFirst<<min(f.tries[g.Set], 10), obstacleMost)
	f.tries[g.Set]++
	b.until = now.Add(wait)
	f.obstacles[g.Set] = b
	delete(f.failed, g.Set)
}

// failing notes that a set could not be raised, and says whether it has been so
// for too long.
func (f *fitness) failing(now lease.Time, set string) bool {
	since, ok := f.failed[set]
	if !ok {
		f.failed[set] = now
		return false
	}
	return now.Sub(since) >= addPatience
}

// raised forgets the troubles of a set.
func (f *fitness) raised(set string) {
	delete(f.failed, set)
	delete(f.tries, set)
}

// clearObstacles withdraws what is no longer in the way.
func (o *owner) clearObstacles(now lease.Time) {
	for _, set := range sortedKeys(o.fitness.obstacles) {
		b := o.fitness.obstacles[set]
		if now < b.until {
			if !b.where {
				continue
			}
			o.findInterfaces([]tenure.Grant{b.grant})
			if _, err := o.resolve(b.grant); err != nil {
				continue
			}
		}
		delete(o.fitness.obstacles, set)
		o.journal.info("set can be held again", "set", set, "was", b.reason)
	}
}

// unreported returns the conditions that the quorum does not know yet.
func (f *fitness) unreported(now lease.Time, sets []string) []*pb.Condition {
	var out []*pb.Condition
	for _, set := range sets {
		c := f.of(set)
		if c.Pending {
			continue
		}
		was, known := f.reported[set]
		same := c.Weight == was.Weight && c.Veto == was.Veto
		switch {
		case !known && same && !f.unsure:
			continue
		case same && (known || !f.unsure) && (c.Reason == was.Reason || now.Sub(f.reportedAt) < reasonEvery):
			continue
		}
		out = append(out, toPB(set, c))
	}
	return out
}

// told notes what the quorum knows now.
func (f *fitness) told(now lease.Time, conditions []*pb.Condition) {
	for _, c := range conditions {
		f.reported[c.Set] = Condition{Weight: int(c.Weight), Veto: c.Veto, Reason: c.Reason}
	}
	f.reportedAt = now
}

func toPB(set string, c Condition) *pb.Condition {
	return &pb.Condition{Set: set, Weight: int32(c.Weight), Veto: c.Veto, Reason: c.Reason}
}
