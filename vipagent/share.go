package vipagent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	pb "holdfast/coordinator/api/holdfastpb"
	"holdfast/coordinator/lease"
	"holdfast/vipagent/fault"
	"holdfast/vipagent/tenure"
	"holdfast/vipagent/vrrp"
)

// A set may be shared with routers outside of the quorum, Keepalived's say. Then
// the lease decides which of our hosts speaks VRRP for it, and VRRP whether the
// addresses are up there: they are up only while both say so. What this file adds
// can therefore only keep addresses down, never put them up without a lease.

const (
	// placeEvery is how often a set whose interface or source address is not to be
	// found is looked at again.
	placeEvery = time.Second
	// placeLost is how long a place may not be found before the set is silent: a
	// reading of the kernel that fails must not take addresses down.
	placeLost = 3 * time.Second
	// routersEvery is the shortest time between two reports to the quorum of how
	// this host stands in the VRRP of its sets.
	routersEvery = time.Second
	// notesEvery is the shortest time between two lines of the log of one kind for one
	// set, sameNoteEvery between two that say the same.
	notesEvery    = time.Second
	sameNoteEvery = time.Minute
	// maxOdd bounds how many kinds of odd advertisements are remembered.
	maxOdd = 1000
)

// sharing is the owner's part in VRRP.
type sharing struct {
	sets     []sharedSet // of the newest view
	shares   map[string]*share
	ports    []AdvertPort // listened to
	odd      map[string]bool
	told     map[string]*pb.Router
	toldFor  uint64 // session that was told
	telling  bool
	tellAt   lease.Time // not before then
	placedAt lease.Time
}

// share is one shared set.
type share struct {
	sharedSet
	port    AdvertPort
	source  netip.Addr
	placed  bool       // port and source are known
	lostAt  lease.Time // they are not found any more since then; 0 = they are
	router  *vrrp.Shared
	pending *vrrp.Send // the newest advertisement that has not left
	missing string     // why it is not placed, as logged
	noted   map[vrrp.Kind]noted
}

// noted is a note that was logged.
type noted struct {
	text string
	at   lease.Time
}

func newSharing() sharing {
	return sharing{shares: make(map[string]*share), odd: make(map[string]bool), told: make(map[string]*pb.Router)}
}

// Advertised says that an advertisement has come. Its Message is copied. Under a
// flood some are lost, as on a wire.
func (a *Agent) Advertised(x Advert) { a.inbox.putAdvert(x) }

// takeShared follows the newest view.
func (o *owner) takeShared(v *pb.View) {
	o.sharing.sets = parseShared(v)
	for _, s := range o.sharing.sets {
		if s.unread != nil {
			o.journal.error("VRRP not made out: the addresses stay down", "set", s.name, "err", s.unread)
		}
	}
	o.sharing.placedAt = 0
}

// hear takes in the advertisements that have come.
func (o *owner) hear(now lease.Time, adverts []Advert) {
	for _, x := range adverts {
		for _, s := range o.sharing.shares {
			// Many routers may share one wire: what is for another is not even read.
			if s.placed && s.port.Interface == x.Interface && s.ipv6 == x.Source.Is6() && len(x.Message) > 1 && x.Message[1] == s.config.VRID {
				o.hearFor(now, s, x)
			}
		}
	}
}

func (o *owner) hearFor(now lease.Time, s *share, x Advert) {
	r, err := s.config.Accept(vrrp.Packet{Message: x.Message, Source: x.Source, Destination: x.Destination, TTL: x.TTL}, vrrp.Policy{Unicast: s.port.Unicast})
	if err != nil {
		o.odd(s, err, x.Source)
		return
	}
	o.obey(now, s, s.router.Hear(r, time.Duration(now)))
}

// odd logs why another router's advertisements are not taken in, once per reason.
func (o *owner) odd(s *share, err error, source netip.Addr) {
	key := fmt.Sprintf("%s %v %v", s.name, vrrp.ReasonOf(err), source)
	if !o.sharing.odd[key] && len(o.sharing.odd) < maxOdd {
		o.sharing.odd[key] = true
		o.journal.warn("VRRP advertisement not taken in", "set", s.name, "from", source, "err", err)
	}
}

// speak brings every shared set up to date: it speaks only while this host holds it.
func (o *owner) speak(now lease.Time) {
	if o.edges.Adverts == nil || len(o.sharing.sets) == 0 && len(o.sharing.shares) == 0 {
		return
	}
	o.place(now)
	for _, s := range o.sharing.shares {
		o.occupy(s)
	}
	may := o.maySpeak(now)
	for _, name := range sortedKeys(o.sharing.shares) {
		s := o.sharing.shares[name]
		o.obey(now, s, o.turn(now, s, may[name]))
		if due, ok := s.router.Due(); ok && due <= time.Duration(now) {
			o.obey(now, s, s.router.Step(vrrp.Timer{}, time.Duration(now)))
		}
		if due, ok := s.router.Due(); ok {
			o.wakeBy(lease.Time(due))
		}
	}
	o.advertise(now) // what gives way is said while the addresses are still up
}

// occupy notes whether another program on this host has addresses of the set: a
// Keepalived that runs beside this agent, which is not heard. Then another host is
// to hold the set.
func (o *owner) occupy(s *share) {
	delete(o.fitness.occupied, s.name)
	for _, ip := range s.addresses {
		if o.others[ip] {
			o.fitness.occupied[s.name] = fmt.Sprintf("another program on this host has %s", ip)
		}
	}
}

// turn lets a set speak or be silent.
func (o *owner) turn(now lease.Time, s *share, may bool) []vrrp.Action {
	switch {
	case !s.placed:
		s.mute()
		return nil
	case o.book.Stopping() && s.router.Active():
		return s.router.Step(vrrp.Shutdown{}, time.Duration(now))
	case !may:
		s.mute()
		return nil
	case s.observe && s.router.Active():
		return s.router.Step(vrrp.Yield{}, time.Duration(now))
	case s.observe:
		s.mute()
		return nil
	}
	return s.router.Speak(o.anyUp(s), time.Duration(now))
}

// mute makes a set silent: what has not been said is not said later.
func (s *share) mute() {
	s.router.Mute()
	s.pending = nil
}

// anyUp says whether addresses of the set are up here: a former process has left
// them, or the set was not shared until now.
func (o *owner) anyUp(s *share) bool {
	return slices.ContainsFunc(s.config.Addresses, func(ip netip.Addr) bool {
		u, ok := o.book.UpAt(ip)
		return ok && u.Confirmed && u.Set == s.name
	})
}

// maySpeak says which sets this host holds.
func (o *owner) maySpeak(now lease.Time) map[string]bool {
	may := make(map[string]bool)
	for _, g := range o.book.Decide(o.moment(now), o.veto).Hold {
		may[g.Set] = true
	}
	return may
}

// obey does what a virtual router says, but for the addresses: reconcile sees to
// them. An advertisement waits until they are as it says.
func (o *owner) obey(now lease.Time, s *share, actions []vrrp.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case vrrp.Send:
			s.pending = &a
		case vrrp.Enter:
			o.journal.info("VRRP", "set", s.name, "from", a.From, "to", a.To, "why", a.Why)
		case vrrp.Announce:
			for _, ip := range s.addresses {
				o.announcer.claimed(now, ip)
			}
		case vrrp.Note:
			if s.news(now, a) {
				o.journal.info("VRRP: "+a.Text, "set", s.name)
			}
		}
	}
}

// news says whether a note is to be logged. Most come again with each advertisement.
func (s *share) news(now lease.Time, n vrrp.Note) bool {
	last, ok := s.noted[n.Kind]
	pause := notesEvery
	if last.text == n.Text {
		pause = sameNoteEvery
	}
	if ok && now < last.at.Add(pause) {
		return false
	}
	s.noted[n.Kind] = noted{n.Text, now}
	return true
}

// advertise sends what is pending of the sets whose addresses are up.
func (o *owner) advertise(now lease.Time) {
	for _, name := range sortedKeys(o.sharing.shares) {
		s := o.sharing.shares[name]
		if s.pending == nil || !o.allUp(s) {
			continue
		}
		priority := s.pending.Priority
		s.pending = nil
		if priority != vrrp.PriorityStop && !s.router.Active() {
			continue // overtaken
		}
		if err := o.sendAdvert(s, priority); err != nil {
			o.journal.warn("advertisement not sent", "set", s.name, "err", err)
		}
		if priority == vrrp.PriorityStop {
			s.router.Mute()
		}
	}
}

// allUp says whether all advertised addresses are up under a lease, right now.
func (o *owner) allUp(s *share) bool {
	m := o.moment(o.now())
	for _, ip := range s.config.Addresses {
		u, ok := o.book.UpAt(ip)
		if !ok || !u.Confirmed || u.Set != s.name || !o.book.Alive(u.Session, m) {
			return false
		}
		if also := o.book.Also(u.Session); also != 0 && !o.book.Alive(also, m) {
			return false
		}
	}
	return true
}

func (o *owner) sendAdvert(s *share, priority uint8) error {
	to := s.peers
	if len(to) == 0 {
		to = []netip.Addr{vrrp.MulticastGroup(!s.ipv6)}
	}
	a := s.config.Advertisement(priority)
	for _, destination := range to {
		message, err := a.Append(nil, s.config.Form(!s.ipv6), s.source, destination)
		if err != nil {
			return err
		}
		fault.Point(fault.Advertise)
		if err := o.edges.Adverts.Send(s.port, Advert{Source: s.source, Destination: destination, TTL: vrrp.TTL, Message: message}); err != nil {
			return err
		}
	}
	return nil
}

// outranked says why the addresses of a set that is held must be down: a router
// outside of the quorum is Active, or this host only observes.
func (o *owner) outranked(g tenure.Grant) (cause string, yes bool) {
	i, ok := slices.BinarySearchFunc(o.sharing.sets, g.Set, func(s sharedSet, name string) int { return cmp.Compare(s.name, name) })
	if !ok {
		return "", false
	}
	s := o.sharing.shares[g.Set]
	switch {
	case o.sharing.sets[i].unread != nil:
		return "its VRRP cannot be made out", true
	case s == nil || !s.placed:
		return "its VRRP has no place on this host yet", true
	case s.observe:
		return "this host only observes its VRRP", true
	case !s.router.Active():
		return "this host is VRRP Backup for it", true
	}
	return "", false
}

// place finds out where each set advertises, and listens there.
func (o *owner) place(now lease.Time) {
	sh := &o.sharing
	if sh.placedAt != 0 && now < sh.placedAt.Add(placeEvery) && !o.look {
		return
	}
	sh.placedAt = now
	keep := make(map[string]bool)
	where := o.findPlaces(sh.sets)
	for i := range sh.sets {
		set := &sh.sets[i]
		if set.unread != nil {
			continue
		}
		keep[set.name] = true
		s := sh.shares[set.name]
		switch {
		case s == nil:
			s = &share{sharedSet: *set, router: vrrp.NewShared(set.config, time.Duration(now)), noted: make(map[vrrp.Kind]noted)}
			sh.shares[set.name] = s
		case !s.equal(set):
			s.sharedSet = *set
			o.obey(now, s, s.router.Configure(set.config, time.Duration(now)))
		}
		o.placeOne(now, s, where)
	}
	maps.DeleteFunc(sh.shares, func(name string, _ *share) bool { return !keep[name] })
	maps.DeleteFunc(o.fitness.occupied, func(name string, _ string) bool { return !keep[name] })
	var ports []AdvertPort
	for _, s := range sh.shares {
		if s.placed {
			ports = append(ports, s.port)
		}
	}
	slices.SortFunc(ports, AdvertPort.Compare)
	if ports = slices.Compact(ports); !slices.Equal(ports, sh.ports) {
		sh.ports = ports
		o.edges.Adverts.Listen(ports)
	}
}

// placeOne notes the interface and the source address of one set.
func (o *owner) placeOne(now lease.Time, s *share, where *places) {
	port, source, err := where.of(&s.sharedSet)
	if err != nil {
		if s.lostAt == 0 {
			s.lostAt = now
		}
		if now >= s.lostAt.Add(placeLost) {
			s.placed = false
		}
		if err.Error() != s.missing {
			s.missing = err.Error()
			o.journal.warn("VRRP has no place on this host", "set", s.name, "err", err)
		}
		return
	}
	if !s.placed || s.port != port {
		o.obey(now, s, s.router.Anew(time.Duration(now))) // nobody has listened there
	}
	s.port, s.source, s.placed, s.lostAt, s.missing = port, source, true, 0, ""
	o.obey(now, s, s.router.Sources(source, s.fellows, time.Duration(now)))
}

// sendRouters tells the quorum how this host stands in the VRRP of its sets, when
// that has changed.
func (o *owner) sendRouters(now lease.Time) {
	sh := &o.sharing
	session := o.book.Current().ID
	if sh.telling || session == 0 || len(sh.shares) == 0 && len(sh.told) == 0 || !o.book.Alive(session, o.moment(now)) {
		return
	}
	if sh.toldFor != session {
		sh.toldFor, sh.told = session, make(map[string]*pb.Router)
	}
	var news []*pb.Router
	for _, name := range sortedKeys(sh.shares) {
		if r := o.routerOf(now, sh.shares[name]); !sameRouter(r, sh.told[name]) {
			news = append(news, r)
		}
	}
	for _, name := range sortedKeys(sh.told) {
		if sh.shares[name] == nil {
			news = append(news, &pb.Router{Set: name})
		}
	}
	if len(news) == 0 {
		return
	}
	if now < sh.tellAt {
		o.wakeBy(sh.tellAt)
		return
	}
	sh.telling = true
	o.call(callLimit, func(ctx context.Context) func() {
		_, err := o.edges.Grants.ReportRouter(ctx, &pb.ReportRouterRequest{Session: session, Routers: news})
		return func() { o.routersTold(session, news, err) }
	})
}

func (o *owner) routersTold(session uint64, news []*pb.Router, err error) {
	sh := &o.sharing
	sh.telling, sh.tellAt = false, o.now().Add(routersEvery)
	if err != nil {
		o.journal.warn("VRRP not reported", "err", err)
		return
	}
	if sh.toldFor != session {
		return
	}
	for _, r := range news {
		if r.GetState() == "" {
			delete(sh.told, r.GetSet())
		} else {
			sh.told[r.GetSet()] = r
		}
	}
}

// routerOf is what the quorum is told of a set.
func (o *owner) routerOf(now lease.Time, s *share) *pb.Router {
	r := &pb.Router{Set: s.name, State: "listening"}
	switch {
	case s.router.Active():
		r.State = "active"
	case s.router.Speaking():
		r.State = "backup"
	}
	if s.source.IsValid() {
		r.Source = s.source.String()
	}
	if source, priority, ok := s.router.Stranger(time.Duration(now)); ok {
		r.Active, r.Priority = source.String(), uint32(priority)
	} else if o.fitness.occupied[s.name] != "" && s.source.IsValid() {
		r.Active = s.source.String() // a neighbour on this host, which is not heard
	}
	return r
}

func sameRouter(a, b *pb.Router) bool {
	return b != nil && a.GetState() == b.GetState() && a.GetActive() == b.GetActive() &&
		a.GetPriority() == b.GetPriority() && a.GetSource() == b.GetSource()
}
