package router

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

// Dump is what can be written to a file on request.
type Dump uint8

// The dumps, in Keepalived's formats, which exporters read.
const (
	DumpData   Dump = iota + 1 // configuration and state, text
	DumpStats                  // counters, text
	DumpJSON                   // state and counters
	ClearStats                 // counters, text; they are 0 afterwards
)

// Dump writes a file in the configured place. It may be called while Run runs, from
// any goroutine, and does not wait.
func (r *Router) Dump(d Dump) {
	r.post(func() {
		if r.stopping {
			return
		}
		path, content := r.render(d)
		if d == ClearStats {
			for _, in := range r.current.instances {
				in.stats = vrrp.Stats{}
			}
		}
		r.tasks.Go(func() {
			if err := r.host.Surroundings.Write(path, content); err != nil {
				r.log.Error("cannot write dump", "file", path, "error", err)
			}
		})
	})
}

func (r *Router) render(d Dump) (path string, content []byte) {
	var b bytes.Buffer
	g := r.current.config.Global
	switch d {
	case DumpData:
		r.writeData(&b)
		return cmp.Or(g.StateDump, "/tmp/keepalived.data"), b.Bytes()
	case DumpJSON:
		r.writeJSON(&b)
		return cmp.Or(g.JSONDump, "/tmp/keepalived.json"), b.Bytes()
	}
	for _, in := range r.current.instances {
		in.writeStats(&b)
	}
	return cmp.Or(g.StatsDump, "/tmp/keepalived.stats"), b.Bytes()
}

func (in *instance) writeStats(w io.Writer) {
	c := &in.stats
	fmt.Fprintf(w, "VRRP Instance: %s\n", in.conf.Name)
	for _, line := range []struct {
		text  string
		value any
	}{
		{"  Advertisements:", nil}, {"    Received: ", c.Received}, {"    Sent: ", c.Sent},
		{"  Became master: ", c.Became}, {"  Released master: ", c.Released},
		{"  Packet Errors:", nil}, {"    Length: ", c.Counter("packet_len_err")}, {"    TTL: ", c.Counter("ip_ttl_err")},
		{"    Invalid Type: ", c.Counter("invalid_type_rcvd")}, {"    Advertisement Interval: ", c.Counter("advert_interval_err")},
		{"    Address List: ", c.Counter("addr_list_err")},
		{"  Authentication Errors:", nil}, {"    Invalid Type: ", c.Counter("invalid_authtype")},
		{"    Type Mismatch: ", c.Counter("authtype_mismatch")}, {"    Failure: ", c.Counter("auth_failure")},
		{"  Priority Zero:", nil}, {"    Received: ", c.StopReceived}, {"    Sent: ", c.StopSent},
	} {
		if line.value == nil {
			fmt.Fprintln(w, line.text)
			continue
		}
		fmt.Fprintf(w, "%s%d\n", line.text, line.value)
	}
}

func (r *Router) writeData(w io.Writer) {
	g := r.current.config.Global
	fmt.Fprintf(w, "------< Global definitions >------\n Router ID = %s\n Dynamic interfaces = %t\n VRRP default protocol version = %d\n",
		g.RouterID, g.DynamicInterfaces, max(2, g.Version))
	fmt.Fprintf(w, " Timers that were late = %d\n", r.lateTimer)
	if len(r.current.instances) > 0 {
		fmt.Fprintln(w, "------< VRRP Topology >------")
	}
	for _, in := range r.current.instances {
		in.writeData(w)
	}
	if len(r.current.groups) > 0 {
		fmt.Fprintln(w, "------< VRRP Sync groups >------")
	}
	for _, g := range r.current.groups {
		fmt.Fprintf(w, " VRRP Sync Group = %s, %s\n   VRRP member instances :\n", g.conf.Name, stateName(g.state))
		for _, in := range g.members {
			fmt.Fprintf(w, "     %s\n", in.conf.Name)
		}
		fmt.Fprintf(w, "   Using smtp notification = %s\n", yesNo(g.conf.Notify.Email))
	}
	r.writeTracked(w)
	fmt.Fprintln(w, "------< Interfaces >------")
	for _, name := range slices.Sorted(maps.Keys(r.links)) {
		l := r.links[name]
		fmt.Fprintf(w, " Name = %s\n   index = %d\n", l.Name, l.Index)
		for _, a := range l.Addresses {
			fmt.Fprintf(w, "   IPv%d address = %s\n", family(a.Addr().Is6()), a)
		}
		fmt.Fprintf(w, "   State = %s\n", map[bool]string{true: "UP, RUNNING", false: "DOWN"}[l.Up])
	}
}

func family(v6 bool) int {
	if v6 {
		return 6
	}
	return 4
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func enabled(b bool) string {
	if b {
		return "enabled"
	}
	return "disabled"
}

// field is a line of a dump.
type field struct {
	name  string
	value any
}

func (in *instance) writeData(w io.Writer) {
	fmt.Fprintf(w, " VRRP Instance = %s\n", in.conf.Name)
	for _, part := range [][]field{in.dataState(), in.dataWire(), in.dataTimes(), in.dataPolicy()} {
		for _, f := range part {
			fmt.Fprintf(w, "   %s = %v\n", f.name, f.value)
		}
	}
	if !in.unicast() {
		fmt.Fprintf(w, "   Multicast address %s\n", in.multicastGroup())
	}
	in.writeLists(w)
}

func (in *instance) dataState() []field {
	c := in.conf
	state := in.machine.State()
	out := []field{{"VRRP Version", c.Version}}
	if in.group != nil {
		out = append(out, field{"Sync group", in.group.conf.Name})
	}
	out = append(out, field{"State", stateName(state)})
	if s := in.machine.Status(); state == vrrp.Backup && s.Active.IsValid() {
		out = append(out, field{"Master router", s.Active}, field{"Master priority", s.ActivePriority})
		if c.Version == 3 {
			out = append(out, field{"Master advert interval", fmt.Sprintf("%d milli-sec", s.ActiveInterval.Milliseconds())})
		}
	}
	faults := 0
	if in.why != "" {
		faults = 1
	}
	out = append(out, field{"Wantstate", stateName(state)}, field{"Number of interface and track script faults", faults})
	if in.why != "" {
		out = append(out, field{"Fault", in.why})
	}
	out = append(out, field{"Master down timer", fmt.Sprintf("%d usecs", in.machine.Status().ActiveDown.Microseconds())})
	return append(out, field{"Last transition", fmt.Sprintf("%d.%06d (%s)", in.since.Unix(), in.since.Nanosecond()/1000, in.since.Format("Mon Jan _2 15:04:05.000000 2006"))})
}

func (in *instance) dataWire() []field {
	c := in.conf
	var out []field
	if c.VMAC != nil {
		out = append(out, field{"Use VMAC, i/f name", fmt.Sprintf("%s, xmit_base = %t", in.vmacName(), c.VMAC.XmitBase)})
	}
	source := "(none)"
	if in.source.IsValid() {
		source = in.source.String()
	}
	if c.Source.IsValid() {
		source += " (from configuration)"
	}
	return append(out, field{"Interface", in.device()}, field{"Using src_ip", source})
}

func (in *instance) dataTimes() []field {
	c := in.conf
	interval := fmt.Sprintf("%d sec", int(c.Interval.Seconds()))
	if c.Version == 3 {
		interval = fmt.Sprintf("%d milli-sec", c.Interval.Milliseconds())
	}
	downAdverts := c.DownAdverts
	if downAdverts == 0 {
		downAdverts = 3
	}
	return []field{
		{"Gratuitous ARP delay", int(c.GARP.Delay.Seconds())}, {"Gratuitous ARP repeat", c.GARP.Repeat},
		{"Gratuitous ARP refresh", int(c.GARP.Refresh.Seconds())}, {"Gratuitous ARP refresh repeat", c.GARP.RefreshRepeat},
		{"Gratuitous ARP lower priority delay", int(c.GARP.LowerDelay.Seconds())}, {"Gratuitous ARP lower priority repeat", c.GARP.LowerRepeat},
		{"Down timer adverts", downAdverts},
		{"Send advert after receive lower priority advert", !c.LowerNoAdvert},
		{"Send advert after receive higher priority advert", c.HigherAdvert},
		{"Virtual Router ID", c.VRID}, {"Priority", c.Priority}, {"Effective priority", in.priority}, {"Total priority", in.priority},
		{"Advert interval", interval},
	}
}

func (in *instance) dataPolicy() []field {
	c := in.conf
	out := []field{{"Accept", enabled(c.Accept)}, {"Preempt", enabled(c.Preempt)}}
	if c.PreemptDelay > 0 {
		out = append(out, field{"Preempt delay", fmt.Sprintf("%g secs", c.PreemptDelay.Seconds())})
	}
	out = append(out, field{"Promote_secondaries", enabled(c.PromoteSecondary)})
	switch {
	case c.Password != nil:
		out = append(out, field{"Authentication type", "SIMPLE_PASSWORD"}, field{"Password", "********"})
	case c.Version == 2:
		out = append(out, field{"Authentication type", "none"})
	}
	return out
}

func (in *instance) writeLists(w io.Writer) {
	c := in.conf
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(w, "   %s :\n     %s\n", title, strings.Join(lines, "\n     "))
		}
	}
	if vips := in.addressLines(c.Addresses); len(vips) > 0 {
		fmt.Fprintf(w, "   Virtual IP (%d):\n     %s\n", len(vips), strings.Join(vips, "\n     "))
	}
	list("Virtual IP Excluded", in.addressLines(c.Excluded))
	if in.unicast() {
		var peers []string
		for _, p := range c.Peers {
			peers = append(peers, fmt.Sprintf("%s min_ttl %d max_ttl %d", p.Address, p.MinTTL, cmp.Or(p.MaxTTL, 255)))
		}
		fmt.Fprintf(w, "   Unicast TTL = %d\n   Check unicast src : %s\n", cmp.Or(c.UnicastTTL, 255), yesNo(c.CheckUnicast))
		list("Unicast Peer", peers)
	}
	list("Virtual Routes", words(c.Routes, func(r keepalived.Route) []string { return r.Words }))
	list("Virtual Rules", words(c.Rules, func(r keepalived.Rule) []string { return r.Words }))
	for _, t := range []struct{ title, kind string }{
		{"Tracked interfaces", kindInterface}, {"Tracked scripts", kindScript},
		{"Tracked process", kindProcess}, {"Tracked files", kindFile},
	} {
		var lines []string
		for _, d := range in.depends {
			if d.on.kind == t.kind {
				lines = append(lines, d.String())
			}
		}
		list(t.title, lines)
	}
	fmt.Fprintf(w, "   Using smtp notification = %s\n", yesNo(c.Notify.Email))
}

// String returns the dependency as a dump has it.
func (d dependency) String() string {
	s := fmt.Sprintf("%s weight %d", d.on.name, d.weight)
	if d.reverse {
		s += " reverse"
	}
	return s
}

func words[T any](list []T, of func(T) []string) []string {
	var out []string
	for _, x := range list {
		out = append(out, strings.Join(of(x), " "))
	}
	return out
}

// addressLines writes addresses as ip(8) would be told them, and "set" if they are up.
func (in *instance) addressLines(list []keepalived.Address) []string {
	isUp := make(map[string]bool)
	for _, a := range in.has.addresses {
		isUp[addressKey(a)] = true
	}
	var out []string
	for _, a := range in.located(list) {
		s := a.Prefix.String()
		if a.Prefix.IsSingleIP() {
			s = a.Prefix.Addr().String()
		}
		if a.Broadcast.IsValid() {
			s += " brd " + a.Broadcast.String()
		}
		s += " dev " + a.Interface + " scope " + cmp.Or(a.Scope, "global")
		if a.Label != "" {
			s += " label " + a.Label
		}
		if a.Peer.IsValid() {
			s += " peer " + a.Peer.String()
		}
		if len(a.Options) > 0 {
			s += " " + strings.Join(a.Options, " ")
		}
		if a.NoTrack {
			s += " no_track"
		}
		if isUp[addressKey(a)] {
			s += " set"
		}
		out = append(out, s)
	}
	return out
}

func (r *Router) writeTracked(w io.Writer) {
	s := r.current
	if len(s.checks) > 0 {
		fmt.Fprintln(w, "------< VRRP Scripts >------")
	}
	for _, name := range slices.Sorted(maps.Keys(s.checks)) {
		s.checks[name].writeData(w)
	}
	if len(s.quorums) > 0 {
		fmt.Fprintln(w, "------< VRRP Track processes >------")
	}
	for _, name := range slices.Sorted(maps.Keys(s.quorums)) {
		q := s.quorums[name]
		fmt.Fprintf(w, " VRRP Track process = %s\n   Process = %s\n   Min processes = %d\n   Current processes = %d\n   Have quorum = %t\n   Weight = %d\n",
			name, q.conf.Process, q.conf.Quorum, q.count, q.state == up, q.conf.Weight)
	}
	if len(s.config.Files) > 0 {
		fmt.Fprintln(w, "------< Track files >------")
	}
	for _, f := range s.config.Files {
		fmt.Fprintf(w, " Track file = %s\n   File = %s\n   Status = %d\n   Weight = %d\n", f.Name, f.Path, s.factors[factorKey{kindFile, f.Name}].value, f.Weight)
	}
}

func (c *check) writeData(w io.Writer) {
	seconds := func(d time.Duration) string { return fmt.Sprintf("%g sec", d.Seconds()) }
	status, state := "BAD", "idle"
	if c.state == up {
		status = "GOOD"
	}
	if c.running {
		state = "running"
	}
	fmt.Fprintf(w, " VRRP Script = %s\n", c.conf.Name)
	for _, f := range []field{
		{"Command", strings.Join(c.conf.Command.Args, " ")}, {"Interval", seconds(c.conf.Interval)}, {"Timeout", seconds(c.conf.Timeout)},
		{"Weight", c.conf.Weight}, {"Rise", c.conf.Rise}, {"Fall", c.conf.Fall}, {"Result", c.result}, {"Status", status}, {"State", state},
	} {
		fmt.Fprintf(w, "   %s = %v\n", f.name, f.value)
	}
}
