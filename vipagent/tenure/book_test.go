package tenure

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/vipagent/vip"
)

const second = lease.Time(time.Second)

// held returns a book with session 101 in use, that holds web 101/105, all stored.
func held(l Leases) *Book {
	b := New(Identity{"h", "boot-1"})
	b.Swept()
	b.Opened(lease.Session{ID: 101, TTL: time.Second}, 5*second)
	b.TakeView(View{Index: 110, Sessions: []uint64{101}, Grants: []Grant{{
		Set: "web", Session: 101, Epoch: 105, Addresses: []Claimed{{Prefix: netip.MustParsePrefix("10.0.0.5/24"), Claim: 7}},
	}}}, 5*second)
	w := wantedWeb(105)
	b.Expect(Up{Address: w.Address, Set: "web", Session: 101, Epoch: 105})
	b.Confirm(w.IP(), true)
	b.File(l)
	b.Stored()
	return b
}

func wantedWeb(epoch uint64) vip.Wanted {
	return vip.Wanted{Address: vip.Address{Prefix: netip.MustParsePrefix("10.0.0.5/24"), Interface: "eth0"}, Set: "web", Epoch: epoch}
}

func TestMayAct(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Book)
		leases  leaseTable
		session uint64
		want    bool
		until   lease.Time
	}{
		"own":                  {nil, leaseTable{101: {6 * second, false}}, 101, true, 6 * second},
		"none":                 {nil, leaseTable{101: {6 * second, false}, 0: {9 * second, false}}, 0, false, 0},
		"another host's":       {nil, leaseTable{101: {6 * second, false}, 102: {9 * second, false}}, 102, false, 0},
		"marked, not lapsed":   {nil, leaseTable{101: {6 * second, true}}, 101, true, 6 * second},
		"lapsed":               {nil, leaseTable{101: {5 * second, false}}, 101, false, 5 * second},
		"within the guard":     {nil, leaseTable{101: {5*second + 20e6, false}}, 101, false, 5*second + 20e6},
		"just before it":       {nil, leaseTable{101: {5*second + 20e6 + 1, false}}, 101, true, 5*second + 20e6 + 1},
		"stopping":             {func(b *Book) { b.Stop() }, leaseTable{101: {6 * second, false}}, 101, false, 6 * second},
		"beside a new one":     {next, leaseTable{101: {6 * second, true}, 120: {5 * second, false}}, 101, true, 6 * second},
		"old lapsed, new not":  {next, leaseTable{101: {5 * second, true}, 120: {6 * second, false}}, 101, false, 5 * second},
		"new itself":           {next, leaseTable{101: {5 * second, true}, 120: {6 * second, false}}, 120, true, 6 * second},
		"rebinding":            {rebind, leaseTable{101: {7 * second, true}, 120: {6 * second, false}}, 101, true, 6 * second},
		"rebinding, no new":    {rebind, leaseTable{101: {7 * second, true}}, 101, false, 0},
		"rebinding, no old":    {rebind, leaseTable{101: {5 * second, true}, 120: {6 * second, false}}, 101, false, 5 * second},
		"rebound":              {rebind, leaseTable{101: {5 * second, true}, 120: {6 * second, false}}, 120, true, 6 * second},
		"dropped":              {func(b *Book) { b.drop(b.cur, "", 0) }, leaseTable{101: {6 * second, true}}, 101, false, 0},
		"both ended by a stop": {func(b *Book) { rebind(b); b.End("") }, leaseTable{101: {6 * second, true}, 120: {6 * second, false}}, 120, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := held(c.leases)
			if c.change != nil {
				c.change(b)
			}
			m := Moment{5 * second, 20 * time.Millisecond, c.leases}
			if got := b.MayAct(c.session, m); got != c.want {
				t.Errorf("may act: %v, want %v", got, c.want)
			}
			if got := b.ActUntil(c.session, c.leases); got != c.until {
				t.Errorf("until %d, want %d", got, c.until)
			}
		})
	}
}

func next(b *Book) { b.Opened(lease.Session{ID: 120, TTL: time.Second}, 5*second) }

func rebind(b *Book) {
	next(b)
	b.BeginRebind()
}

func TestAdoptOnlyWhatIsProven(t *testing.T) {
	leases := leaseTable{101: {6 * second, true}, 120: {6 * second, false}}
	for name, c := range map[string]struct {
		change func(*File)
		want   string
		none   bool // so that nobody else's session is closed
	}{
		"as it was":           {func(*File) {}, "", false},
		"cut secret":          {func(f *File) { f.Sessions[0].Secret = f.Sessions[0].Secret[:31] }, "session 101 is not complete", false},
		"no ttl":              {func(f *File) { f.Sessions[1].TTL = 0 }, "session 120 is not complete", false},
		"never proven":        {func(f *File) { f.Sessions[0].Deadline = 0 }, "session 101 has lapsed", false},
		"at its deadline":     {func(f *File) { f.Sessions[0].Deadline = 5 * second }, "session 101 has lapsed", false},
		"one ns left":         {func(f *File) { f.Sessions[0].Deadline = 5*second + 1 }, "", false},
		"too far":             {func(f *File) { f.Sessions[0].Deadline = 6*second + 1 }, "deadline of session 101 is farther away than its ttl", false},
		"new one without":     {func(f *File) { f.Sessions[1].Deadline = 0 }, "", false},
		"rebinding without":   {func(f *File) { f.Sessions[1].Deadline, f.Rebinding = 0, true }, "session 120 has lapsed", false},
		"rebinding with both": {func(f *File) { f.Rebinding = true }, "", false},
		"three":               {func(f *File) { f.Sessions = append(f.Sessions, f.Sessions[0]) }, "the file has more than two", false},
		"none":                {func(f *File) { f.Sessions = nil }, "there was none", true},
		"another boot":        {func(f *File) { f.BootID = "boot-0" }, "the host was rebooted", true},
		"another host":        {func(f *File) { f.Host = "i" }, "it is of host i", true},
	} {
		t.Run(name, func(t *testing.T) {
			old := held(leases)
			next(old)
			f := old.File(leases)
			c.change(f)
			b := New(Identity{"h", "boot-1"})
			sessions, why := b.Adopt(f, 5*second)
			if why != c.want {
				t.Fatalf("not adopted because %q, want %q", why, c.want)
			}
			if why != "" {
				if len(sessions) > 0 || b.cur.ID != 0 || b.Closings() == 0 != c.none {
					t.Errorf("sessions %v, in use %d, %d to be closed", sessions, b.cur.ID, b.Closings())
				}
				return
			}
			for i, s := range sessions {
				if want := f.Sessions[i].Deadline; s.Deadline != want || s.Session.ID != f.Sessions[i].ID {
					t.Errorf("adopted %d until %d, the file says %d", s.Session.ID, s.Deadline, want)
				}
			}
			if b.rebinding != f.Rebinding || b.next.ID != 120 {
				t.Errorf("rebinding %v, next %d", b.rebinding, b.next.ID)
			}
		})
	}
}

// An adopted deadline that has passed is none, though the session goes on.
func TestAdoptedDeadlineThatPassed(t *testing.T) {
	old := held(leaseTable{101: {6 * second, false}})
	next(old)
	f := old.File(leaseTable{101: {6 * second, false}, 120: {5*second - 1, false}})
	sessions, why := New(Identity{"h", "boot-1"}).Adopt(f, 5*second)
	if why != "" || len(sessions) != 2 || sessions[1].Deadline != 0 {
		t.Errorf("%v, %q", sessions, why)
	}
}

func TestNothingIsClosedBeforeTheSweep(t *testing.T) {
	b := New(Identity{"h", "boot-1"})
	b.Adopt(&File{Host: "h", BootID: "boot-1", Sessions: []StoredSession{{ID: 101}}}, 0)
	b.Stored()
	nothing := func(netip.Addr) bool { return false }
	if got := b.Closable(nothing); len(got) > 0 {
		t.Errorf("close %v, and nobody has looked what is up", got)
	}
	b.Swept()
	if got := b.Closable(nothing); len(got) != 1 {
		t.Errorf("close %v, want 101", got)
	}
}

func TestSessionThatComesTooLate(t *testing.T) {
	for name, change := range map[string]func(*Book){
		"stopping":  func(b *Book) { b.Stop() },
		"one more":  next,
		"one moved": rebind,
	} {
		t.Run(name, func(t *testing.T) {
			b := held(leaseTable{})
			change(b)
			if use := b.Opened(lease.Session{ID: 130, TTL: time.Second}, 5*second); use != NotNeeded || b.Closings() != 1 {
				t.Errorf("use %d, %d to be closed", use, b.Closings())
			}
		})
	}
}

func TestNewSessionIsDropped(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(*Book)
		deadline lease.Time
		marked   bool
		want     bool
	}{
		"marked and lapsed":             {next, 5 * second, true, true},
		"marked":                        {next, 6 * second, true, false},
		"without a lease":               {next, 0, false, false},
		"marked, lapsed, and rebinding": {rebind, 5 * second, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			leases := leaseTable{101: {6 * second, true}, 120: {c.deadline, c.marked}}
			b := held(leases)
			c.change(b)
			out := b.Advance(Moment{5 * second, 0, leases})
			if dropped := len(out) == 1 && out[0].Kind == NextDropped && b.next.ID == 0 && b.Closings() == 1; dropped != c.want || len(out) > 1 {
				t.Errorf("%v, next %d", out, b.next.ID)
			}
		})
	}
}

// Open in no view is proof only if the view came after the lease was lost.
func TestUnknownToTheCoordinators(t *testing.T) {
	leases := leaseTable{101: {6 * second, false}}
	b := held(leases)
	b.Note(Moment{5 * second, 0, leases}, false)
	b.Note(Moment{6 * second, 0, leases}, true)
	late := Moment{10 * second, 0, leases}
	b.view.Sessions = nil // as if the last view had been of an older copy
	b.view.Index = 90
	if out := b.Advance(late); len(out) > 0 {
		t.Errorf("%v, and no view has come since", out)
	}
	b.TakeView(View{Index: 91}, 9*second)
	if out := b.Advance(late); len(out) != 1 || out[0].Kind != Dropped {
		t.Errorf("%v, want it dropped", out)
	}
}

func TestKeep(t *testing.T) {
	for name, c := range map[string]struct {
		epoch, session uint64
		dirty          bool
	}{
		"the same":    {105, 101, false},
		"new epoch":   {111, 101, true},
		"new session": {105, 120, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := held(leaseTable{})
			u, ok := b.Keep(wantedWeb(c.epoch), c.session, true)
			if !ok || u.Epoch != c.epoch || u.Session != c.session || b.Dirty() != c.dirty {
				t.Errorf("%+v, dirty %v", u, b.Dirty())
			}
		})
	}
}

func TestFloors(t *testing.T) {
	var f Floors[Set]
	f = f.raised([]floor[Set]{{"web", 5}, {"db", 7}, {"web", 9}, {"web", 8}})
	g := f.raised([]floor[Set]{{"web", 6}, {"app", 3}})
	if f.Of("web") != 9 || f.Of("db") != 7 || f.Of("app") != 0 || f.Len() != 2 {
		t.Errorf("floors %v", f)
	}
	if g.Of("web") != 9 || g.Of("db") != 7 || g.Of("app") != 3 || g.Len() != 3 {
		t.Errorf("floors %v: a floor is never lowered", g)
	}
	text, err := json.Marshal(g)
	if err != nil || string(text) != `{"app":3,"db":7,"web":9}` {
		t.Errorf("%s, %v", text, err)
	}
	var back Floors[Set]
	if err := json.Unmarshal(text, &back); err != nil || back.Of("db") != 7 || back.Len() != 3 {
		t.Errorf("%v, %v", back, err)
	}
}

// The encoded state is the same for books that differ in age alone, and another one
// for each thing that matters.
func TestAppend(t *testing.T) {
	leases := leaseTable{101: {6 * second, true}}
	at := 5 * second
	same := held(leases).Append(nil, at)
	older := held(leases)
	older.lapsedAt, older.viewAt = older.lapsedAt+second, older.viewAt+second
	if !bytes.Equal(older.Append(nil, at+second), same) {
		t.Error("a second later it is another state")
	}
	seen := map[string]string{string(same): "as it was"}
	w := wantedWeb(105)
	for name, change := range map[string]func(*Book){
		"view":      func(b *Book) { b.TakeView(View{Index: 111, Sessions: []uint64{101}}, at) },
		"next":      next,
		"rebinding": rebind,
		"stored":    func(b *Book) { rebind(b); b.Stored() },
		"stopping":  (*Book).Stop,
		"dirty":     (*Book).NotStored,
		"alive":     func(b *Book) { b.Note(Moment{at, 0, leases}, false) },
		"lapsed":    func(b *Book) { b.lapsedAt -= second; b.viewAt -= second },
		"newest":    func(b *Book) { b.newest = 0 },
		"set floor": func(b *Book) { b.setFloors = b.setFloors.raised([]floor[Set]{{"web", 105}}) },
		"floor":     func(b *Book) { b.addressFloors = b.addressFloors.raised([]floor[netip.Addr]{{w.IP(), 105}}) },
		"up":        func(b *Book) { b.Keep(wantedWeb(106), 101, true); b.dirty = false },
		"confirmed": func(b *Book) { b.Confirm(w.IP(), false) },
		"closing":   func(b *Book) { b.closing = []Closing{{99, "x"}} },
		"let go": func(b *Book) {
			b.LetGo([]GiveUp{{Grant: Grant{Set: "db", Epoch: 3}}}, nil, func(netip.Addr) bool { return false })
		},
		"not stored": func(b *Book) { b.Deleted() },
	} {
		b := held(leases)
		change(b)
		key := string(b.Append(nil, at))
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s are one state", name, other)
		}
		seen[key] = name
	}
}

func BenchmarkStep(b *testing.B) {
	leases := leaseTable{101: {6 * second, false}}
	book := held(leases)
	m := Moment{5 * second, 20 * time.Millisecond, leases}
	b.ReportAllocs()
	for b.Loop() {
		c := book.Clone()
		c.Advance(m)
		c.Decide(m, nil)
		c.Note(m, false)
	}
}

func BenchmarkAppend(b *testing.B) {
	book := held(leaseTable{})
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = book.Append(buf[:0], 5*second)
	}
}
