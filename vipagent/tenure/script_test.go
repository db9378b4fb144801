package tenure

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/coordinator/lease"
	"holdfast/test/scripts"
	"holdfast/vipagent/vip"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected output in testdata/*.txt")

// TestScripts runs testdata/*.txt. A script is blocks, apart by blank lines: what
// is done, "----", and what came of it. Comments stand before a block. A block is
// one of
//
//	at MS                     the clock stands at MS; the guard is 20 ms
//	lease SESSION MS [marked] its deadline, and whether some coordinator has marked it
//	opened SESSION [TTL]      OpenSession was answered
//	view INDEX [SESSION...]   a view comes, with the open sessions; below it lines
//	                            SET SESSION/EPOCH ADDRESS@CLAIM... [recalled]
//	                            retiring ADDRESS@CLAIM SESSION SET
//	advance                   what happened to the sessions
//	note                      whether the lease was lost or won, and whether a newer
//	                            view was known before
//	decide [veto SET]         what is to be brought about
//	raise                     everything that may be up is up, the rest stays as it is
//	lower [ADDRESS...]        everything that may not be up is down, or just these
//	sweep                     the kernel was compared
//	let go                    floors rise
//	store                     the file is written: what may be sent
//	store fails               it is not
//	wants [TTL]               whether a session is to be opened
//	rebind                    RebindReady, BeginRebind
//	may rebind
//	closable                  the sessions that may be closed
//	closed SESSION
//	restart [boot|host]       another process, with the file as it is now
//	stop, end, deleted        the last steps
//	show
//
// After each block it is checked that a clone and its original say the same, and
// that neither changes the other.
func TestScripts(t *testing.T) {
	scripts.Run(t, *rewrite, func(t *testing.T, text string) string { return newScript(t).run(text) })
}

// script is one run of a script: a host with its kernel, its clock, its renewals
// and its state directory.
type script struct {
	t      *testing.T
	b      *Book
	now    lease.Time
	kernel map[netip.Addr]bool
	leases leaseTable
	file   []byte
	last   Decision
}

type leaseTable map[uint64]entry

type entry struct {
	deadline lease.Time
	marked   bool
}

func (l leaseTable) Lease(session uint64) (lease.Time, bool) {
	return l[session].deadline, l[session].marked
}

func newScript(t *testing.T) *script {
	return &script{t: t, b: New(Identity{"h", "boot-1"}), kernel: make(map[netip.Addr]bool), leases: make(leaseTable)}
}

func (s *script) run(text string) string {
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		head, _, _ := strings.Cut(block+"\n", "\n----\n")
		head = strings.TrimRight(head, "\n")
		var lines []string
		for line := range strings.Lines(head) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		out.WriteString(head + "\n")
		if len(lines) > 0 {
			out.WriteString("----\n" + s.both(lines))
		}
	}
	return out.String()
}

// both does a block with the book and with its clone.
func (s *script) both(lines []string) string {
	s.t.Helper()
	before := s.b.Append(nil, s.now)
	original, kernel, file, leases, last := s.b, s.kernel, s.file, s.leases, s.last
	at := s.now
	s.b, s.kernel, s.leases = original.Clone(), cloneOf(kernel), cloneOf(leases)
	cloned := s.do(lines[0], lines[1:])
	clone, cloneNow := s.b, s.now
	if after := original.Append(nil, at); !bytes.Equal(before, after) {
		s.t.Fatalf("%q: done to a clone, and the original changed", lines[0])
	}
	s.b, s.kernel, s.file, s.leases, s.last, s.now = original, kernel, file, leases, last, at
	out := s.do(lines[0], lines[1:])
	if out != cloned || !bytes.Equal(clone.Append(nil, cloneNow), s.b.Append(nil, s.now)) {
		s.t.Fatalf("%q: a clone went another way:\n%s\nthan the original:\n%s", lines[0], cloned, out)
	}
	return out
}

func cloneOf[K comparable, V any](m map[K]V) map[K]V {
	c := make(map[K]V, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

func (s *script) moment() Moment {
	return Moment{Now: s.now, Guard: 20 * time.Millisecond, Leases: s.leases}
}

func (s *script) present(ip netip.Addr) bool { return s.kernel[ip] }

func (s *script) do(line string, below []string) string {
	w := strings.Fields(line)
	switch w[0] {
	case "at":
		s.now = ms(w[1])
	case "lease":
		s.leases[number(w[1])] = entry{ms(w[2]), len(w) > 3}
	case "view":
		taken := s.b.TakeView(view(w[1:], below), s.now)
		return fmt.Sprintf("taken: %v\n", taken)
	case "show":
		return s.show()
	case "stop":
		s.b.Stop()
	case "deleted":
		s.b.Deleted()
		s.file = nil
	case "sweep":
		s.b.Swept()
	default:
		if out, ok := s.sessions(w); ok {
			return out
		}
		return s.addresses(line, w)
	}
	return "ok\n"
}

// sessions does the lines that are about sessions.
func (s *script) sessions(w []string) (string, bool) {
	switch w[0] {
	case "opened":
		use := s.b.Opened(lease.Session{ID: number(w[1]), TTL: ttl(w[2:])}, s.now)
		return []string{"not needed", "first", "replacement"}[use] + "\n", true
	case "advance":
		kinds := []string{"", "next ended", "next dropped", "ended", "replaced", "dropped"}
		out := ""
		for _, c := range s.b.Advance(s.moment()) {
			out += fmt.Sprintf("%s %d, now %d: %s\n", kinds[c.Kind], c.Session.ID, c.New, c.Cause)
			delete(s.leases, c.Session.ID)
		}
		return orNothing(strings.ReplaceAll(out, ": \n", "\n")), true
	case "note":
		lapsed, proven := s.b.Note(s.moment(), len(s.kernel) == 0)
		out := fmt.Sprintf("lapsed: %v, proven: %v\n", lapsed, proven)
		if s.b.Behind() {
			out += "behind\n"
		}
		return out, true
	case "wants":
		return fmt.Sprintf("%v\n", s.b.WantsSession(ttl(w[1:]), s.moment())), true
	case "rebind":
		if !s.b.RebindReady(s.moment()) {
			return "not ready\n", true
		}
		s.b.BeginRebind()
		return "both count\n", true
	case "may":
		return fmt.Sprintf("%v\n", s.b.MayRebind()), true
	case "closable":
		out := ""
		for _, c := range s.b.Closable(s.present) {
			out += fmt.Sprintf("close %d: %s\n", c.Session, c.Cause)
		}
		return orNothing(out), true
	case "closed":
		s.b.Closed(number(w[1]))
		return "ok\n", true
	case "end":
		out := ""
		for _, e := range s.b.End("stopped") {
			out += fmt.Sprintf("end %d\n", e.ID)
			delete(s.leases, e.ID)
		}
		return orNothing(out), true
	case "restart":
		return s.restart(w[1:]), true
	}
	return "", false
}

func (s *script) restart(w []string) string {
	me := Identity{"h", "boot-1"}
	if slices.Contains(w, "boot") {
		me.BootID = "boot-2"
	}
	if slices.Contains(w, "host") {
		me.Host = "i"
	}
	s.b, s.last, s.leases = New(me), Decision{}, make(leaseTable)
	if s.file == nil {
		return "no file\n"
	}
	f, err := DecodeFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	sessions, why := s.b.Adopt(f, s.now)
	if why != "" {
		return "not adopted: " + why + "\n"
	}
	out := ""
	for _, a := range sessions {
		s.leases[a.Session.ID] = entry{deadline: a.Deadline}
		out += fmt.Sprintf("adopted %d until %d\n", a.Session.ID, a.Deadline/1e6)
	}
	return out
}

// addresses does the lines that are about addresses and the file.
func (s *script) addresses(line string, w []string) string {
	switch w[0] {
	case "decide":
		s.last = s.b.Decide(s.moment(), func(set string) (string, bool) { return "unhealthy", len(w) > 2 && set == w[2] })
		return s.decision()
	case "raise":
		s.raise()
		return s.kernelNow()
	case "lower":
		if len(w) > 1 {
			for _, a := range w[1:] {
				delete(s.kernel, netip.MustParseAddr(a))
			}
			return s.kernelNow()
		}
		may := make(map[netip.Addr]bool)
		for _, x := range s.wanted() {
			may[x.IP()] = true
		}
		for ip := range s.kernel {
			if !may[ip] {
				delete(s.kernel, ip)
			}
		}
		s.b.Forget(s.present, func(ip netip.Addr) bool { return may[ip] })
		return s.kernelNow()
	case "let":
		return fmt.Sprintf("%v\n", s.b.LetGo(s.last.GiveUp, s.last.Retired, s.present))
	case "store":
		return s.store(len(w) > 1)
	}
	s.t.Fatalf("%q is not known", line)
	return ""
}

// wanted is what of the last decision may be up.
func (s *script) wanted() []vip.Wanted {
	var out []vip.Wanted
	for i := range s.last.Hold {
		g := &s.last.Hold[i]
		for _, c := range g.Addresses {
			if s.b.Raisable(g, c) {
				out = append(out, vip.Wanted{Address: vip.Address{Prefix: c.Prefix, Interface: "eth0"}, Set: g.Set, Epoch: g.Epoch})
			}
		}
	}
	return out
}

func (s *script) raise() {
	for _, x := range s.wanted() {
		session := s.last.Hold[slices.IndexFunc(s.last.Hold, func(g Grant) bool { return g.Set == x.Set })].Session
		if !s.kernel[x.IP()] {
			s.b.Expect(Up{Address: x.Address, Set: x.Set, Session: session, Epoch: x.Epoch})
			s.kernel[x.IP()] = true
		}
		s.b.Keep(x, session, true)
	}
}

func (s *script) store(fails bool) string {
	if fails {
		s.b.NotStored()
		return "ok\n"
	}
	file, err := s.b.File(s.leases).Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	s.file = file
	p := s.b.Stored()
	out := ""
	for _, g := range p.Releases {
		out += fmt.Sprintf("release %s %d/%d: %s\n", g.Set, g.Session, g.Epoch, g.Cause)
	}
	for _, r := range p.Removals {
		out += fmt.Sprintf("confirm %s@%d %d %s\n", r.Address, r.Claim, r.Session, r.Set)
	}
	return orNothing(out)
}

func (s *script) decision() string {
	out := ""
	for _, g := range s.last.Hold {
		out += fmt.Sprintf("hold %s %d/%d until %d:", g.Set, g.Session, g.Epoch, s.b.ActUntil(g.Session, s.leases)/1e6)
		for _, c := range g.Addresses {
			if s.b.Raisable(&g, c) {
				out += " " + c.Prefix.Addr().String()
			}
		}
		out += "\n"
	}
	for _, g := range s.last.Lapsed {
		out += fmt.Sprintf("lapsed %s %d/%d\n", g.Set, g.Session, g.Epoch)
	}
	for _, g := range s.last.GiveUp {
		out += fmt.Sprintf("give up %s %d/%d: %s\n", g.Set, g.Session, g.Epoch, g.Cause)
	}
	for _, r := range s.last.Retired {
		out += fmt.Sprintf("retire %s@%d %d %s\n", r.Address, r.Claim, r.Session, r.Set)
	}
	return orNothing(out)
}

func (s *script) show() string {
	out := fmt.Sprintf("view %d, session %d, next %d, rebinding: %v, dirty: %v\n", s.b.view.Index, s.b.cur.ID, s.b.next.ID, s.b.rebinding, s.b.dirty)
	for _, r := range s.b.setFloors.rows {
		out += fmt.Sprintf("floor %s %d\n", r.key, r.epoch)
	}
	for _, r := range s.b.addressFloors.rows {
		out += fmt.Sprintf("floor %s %d\n", r.key, r.epoch)
	}
	for _, u := range s.b.Up() {
		out += fmt.Sprintf("up %s %s %d/%d\n", u.IP(), u.Set, u.Session, u.Epoch)
	}
	return out
}

func (s *script) kernelNow() string {
	var up []string
	for ip := range s.kernel {
		up = append(up, ip.String())
	}
	slices.Sort(up)
	return strings.TrimRight("up: "+strings.Join(up, " "), " ") + "\n"
}

func orNothing(out string) string {
	if out == "" {
		return "nothing\n"
	}
	return out
}

// view reads a view line and the lines below it.
func view(w, below []string) View {
	v := View{Index: number(w[0])}
	for _, id := range w[1:] {
		v.Sessions = append(v.Sessions, number(id))
	}
	for _, line := range below {
		f := strings.Fields(line)
		if f[0] == "retiring" {
			a, claim, _ := strings.Cut(f[1], "@")
			v.Retiring = append(v.Retiring, Retired{netip.MustParseAddr(a), number(claim), number(f[2]), f[3]})
			continue
		}
		session, epoch, _ := strings.Cut(f[1], "/")
		g := Grant{Set: f[0], Session: number(session), Epoch: number(epoch)}
		for _, x := range f[2:] {
			if x == "recalled" {
				g.Recalled, g.Cause = true, "recalled"
				continue
			}
			a, claim, _ := strings.Cut(x, "@")
			g.Addresses = append(g.Addresses, Claimed{Prefix: netip.MustParsePrefix(a + "/24"), Claim: number(claim)})
		}
		v.Grants = append(v.Grants, g)
	}
	return v
}

func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func ms(s string) lease.Time { return lease.Time(number(s)) * lease.Time(time.Millisecond) }

func ttl(w []string) time.Duration {
	if len(w) == 0 {
		return time.Second
	}
	d, err := time.ParseDuration(w[0])
	if err != nil {
		panic(err)
	}
	return d
}
