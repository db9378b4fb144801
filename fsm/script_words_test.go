package fsm

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// words are the arguments of one op line: plain ones in order, key=value ones,
// and the text behind "because".
type words struct {
	plain []string
	named map[string]string
	cause string
	err   error
}

func parseWords(line string) *words {
	w := &words{named: make(map[string]string)}
	for _, word := range strings.Fields(line) {
		if key, value, ok := strings.Cut(word, "="); ok {
			w.named[key] = value
		} else {
			w.plain = append(w.plain, word)
		}
	}
	return w
}

// next takes the next plain word, "" if there is none.
func (w *words) next() string {
	if len(w.plain) == 0 {
		return ""
	}
	word := w.plain[0]
	w.plain = w.plain[1:]
	return word
}

// number takes a named number, or with key "" the next plain word's.
func (w *words) number(key string) uint64 {
	text, ok := w.named[key]
	delete(w.named, key)
	if key == "" {
		text, ok = w.next(), true
	}
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		w.err = err
	}
	return n
}

func (w *words) text(key string) string {
	defer delete(w.named, key)
	return w.named[key]
}

func (w *words) duration(key string, otherwise time.Duration) time.Duration {
	text := w.text(key)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		w.err = err
	}
	return d
}

// flag tells whether a plain word is there.
func (w *words) flag(word string) bool {
	for i, p := range w.plain {
		if p == word {
			w.plain = append(w.plain[:i:i], w.plain[i+1:]...)
			return true
		}
	}
	return false
}

// parseOp reads one op of a script:
//
//	open HOST [ttl=1s]                      close SESSION
//	expire SESSION configuration=N          rebind OLD NEW
//	grant SET session=N                     release SET session=N epoch=N
//	recall SET epoch=N [to=HOST]            confirm ADDRESS session=N claim=N
//	condition SET session=N [weight=N] [veto]
//	stall SESSION lasted=D [ago=D] [more=N]
//	router SET session=N [state=S] [active=ADDRESS] [priority=N]
//	put SET ADDRESS[%INTERFACE],... hosts=HOST:PRIORITY,... [preempt] [delay=D]
//	    [group=G] [spread=L] [apart=L] [paused] [vrid=N [version=N] [priority=N] [interval=D] [password=P]
//	    [via=INTERFACE] [peers=ADDRESS,...] [ipv6] [nopreempt] [plain] [mode=M]]
//	delete SET                              prefer SET HOST|nobody
//	pause SET|everything                    resume SET|everything
//	drain HOST                              undrain HOST
//	restore NAME
//	open HOST broker=NAME                   a broker's session
//	put-group GROUP MEMBER:PRIORITY,... SETTINGS
//	configure GROUP SETTINGS                delete-group GROUP
//	grant-group GROUP session=N [unclean] [operator]
//	release-group GROUP session=N epoch=N   recall-group GROUP epoch=N to=MEMBER
//	grow GROUP MEMBER session=N epoch=N version=N incarnation=N
//	shrink GROUP MEMBER session=N epoch=N version=N
//	return GROUP session=N incarnation=N boot=N
//	put-topic TOPIC QUEUES [ensure]         delete-topic TOPIC
//
// SETTINGS are [mode=sync] [min=1] [policy=in-sync] [local].
//
// and behind any of them: because TEXT.
func parseOp(line string, saved map[string]*State) (Op, error) {
	verb, rest, _ := strings.Cut(line, " ")
	rest, cause, _ := strings.Cut(" "+rest, " because ")
	w := parseWords(rest)
	w.cause = cause
	op, err := w.op(verb, saved)
	switch {
	case err != nil:
		return nil, err
	case w.err != nil:
		return nil, w.err
	case len(w.plain) > 0 || len(w.named) > 0:
		return nil, fmt.Errorf("words left over: %v %v", w.plain, w.named)
	}
	return op, nil
}

func (w *words) op(verb string, saved map[string]*State) (Op, error) {
	switch verb {
	case "open":
		op := OpenSession{Host: w.next(), TTL: w.duration("ttl", time.Second), Secret: [32]byte{1, 2, 3}}
		if name := w.text("broker"); name != "" {
			op.Broker = &Broker{Name: name, Client: w.text("client"), Replication: op.Host + ":7962"}
			if op.Broker.Client == "" {
				op.Broker.Client = op.Host + ":8081"
			}
		}
		return op, nil
	case "close":
		return CloseSession{SessionID(w.number("")), w.cause}, nil
	case "expire":
		return Expire{SessionID(w.number("")), w.number("configuration"), w.cause}, nil
	case "rebind":
		return Rebind{SessionID(w.number("")), SessionID(w.number(""))}, nil
	case "grant":
		return GrantSet{w.next(), SessionID(w.number("session")), w.cause}, nil
	case "release":
		return Release{w.next(), SessionID(w.number("session")), Epoch(w.number("epoch")), w.cause}, nil
	case "recall":
		return RecallSet{w.next(), Epoch(w.number("epoch")), w.text("to"), w.cause}, nil
	case "confirm":
		address, err := netip.ParseAddr(w.next())
		return ConfirmRemoval{SessionID(w.number("session")), address, w.number("claim")}, err
	case "condition":
		condition := Condition{Veto: w.flag("veto"), Reason: w.cause}
		condition.Weight, _ = strconv.Atoi(w.text("weight"))
		return SetCondition{SessionID(w.number("session")), w.next(), condition}, nil
	case "stall":
		return NoteStall{SessionID(w.number("")), w.duration("lasted", 0), w.duration("ago", 0), int(w.number("more"))}, nil
	case "router":
		router := Router{State: w.text("state")}
		var err error
		if w.named["priority"] != "" {
			router.Priority = uint8(w.number("priority"))
		}
		if active := w.text("active"); active != "" {
			router.Active, err = netip.ParseAddr(active)
		}
		return NoteRouter{SessionID(w.number("session")), w.next(), router}, err
	case "put":
		set, err := w.set()
		return PutSet{set, w.cause}, err
	case "delete":
		return DeleteSet{w.next(), w.cause}, nil
	case "prefer":
		set, host := w.next(), w.next()
		if host == "nobody" {
			host = ""
		}
		return PreferHost{set, host, w.cause}, nil
	case "pause", "resume":
		set := w.next()
		if set == "everything" {
			set = ""
		}
		return PauseSet{set, verb == "pause", w.cause}, nil
	case "drain", "undrain":
		return DrainHost{w.next(), verb == "drain", w.cause}, nil
	case "restore":
		copied, ok := saved[w.next()]
		if !ok {
			return nil, fmt.Errorf("nothing saved under this name")
		}
		return copied.Saved(w.cause), nil
	}
	return w.groupOp(verb)
}

func (w *words) set() (Set, error) {
	set := Set{Preempt: w.flag("preempt"), Paused: w.flag("paused"), PreemptDelay: w.duration("delay", 0),
		SyncGroup: w.text("group"), Spread: w.text("spread"), AntiAffinity: w.text("apart")}
	var err error
	if set.VRRP, err = w.vrrp(); err != nil {
		return set, err
	}
	set.Name = w.next()
	for _, text := range strings.FieldsFunc(w.next(), func(r rune) bool { return r == ',' }) {
		text, device, _ := strings.Cut(text, "%")
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return set, err
		}
		set.Addresses = append(set.Addresses, Address{Prefix: prefix, Interface: device})
	}
	for _, text := range strings.FieldsFunc(w.text("hosts"), func(r rune) bool { return r == ',' }) {
		host, priority, _ := strings.Cut(text, ":")
		n, err := strconv.Atoi(priority)
		if err != nil {
			return set, err
		}
		set.Candidates = append(set.Candidates, Candidate{host, n})
	}
	return set, nil
}

func (w *words) vrrp() (*VRRP, error) {
	id := w.text("vrid")
	if id == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(id, 10, 8)
	v := &VRRP{ID: uint8(n), Version: 2, Priority: 100, Interval: w.duration("interval", time.Second), Password: w.text("password"),
		Interface: w.text("via"), IPv6: w.flag("ipv6"), NoPreempt: w.flag("nopreempt"), PlainChecksum: w.flag("plain"), Mode: w.text("mode")}
	if w.named["version"] != "" {
		v.Version = uint8(w.number("version"))
	}
	if w.named["priority"] != "" {
		v.Priority = uint8(w.number("priority"))
	}
	for _, text := range strings.FieldsFunc(w.text("peers"), func(r rune) bool { return r == ',' }) {
		peer, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		v.Peers = append(v.Peers, peer)
	}
	return v, err
}

// show prints the whole state.
func show(s *State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "applied %d, configuration %d%s\n", s.Applied(), s.Configuration(), when(s.Settings().Paused, ", paused"))
	for _, session := range s.Sessions() {
		fmt.Fprintf(&b, "session %d of %s, ttl %v\n", session.ID, session.Host, session.TTL)
		if broker := session.Broker; broker != nil {
			fmt.Fprintf(&b, "  broker %s, clients at %s, brokers at %s\n", broker.Name, broker.Client, broker.Replication)
		}
		for _, set := range slices.Sorted(maps.Keys(session.Conditions)) {
			fmt.Fprintf(&b, "  condition of %s: %v\n", set, session.Conditions[set])
		}
		for _, set := range slices.Sorted(maps.Keys(session.Routers)) {
			fmt.Fprintf(&b, "  router of %s: %v\n", set, session.Routers[set])
		}
	}
	for _, set := range s.Sets() {
		fmt.Fprintf(&b, "set %s, revision %d%s%s%s%s%s%s\n", set.Name, set.Revision,
			when(set.Preempt, fmt.Sprintf(", preempt after %v", set.PreemptDelay)),
			when(set.SyncGroup != "", ", group "+set.SyncGroup), when(set.Spread != "", ", spread "+set.Spread),
			when(set.AntiAffinity != "", ", apart "+set.AntiAffinity),
			when(set.Paused, ", paused"), when(set.Prefer != "", ", prefer "+set.Prefer))
		for _, a := range set.Addresses {
			fmt.Fprintf(&b, "  address %v%s, claim %d\n", a.Prefix, when(a.Interface != "", " on "+a.Interface), a.Claim)
		}
		if v := set.VRRP; v != nil {
			fmt.Fprintf(&b, "  vrrp %d, version %d, priority %d, every %v%s\n", v.ID, v.Version, v.Priority, v.Interval, when(v.Mode != "", ", "+v.Mode))
		}
		for _, c := range set.Candidates {
			fmt.Fprintf(&b, "  candidate %s, priority %d\n", c.Host, c.Priority)
		}
		if g, ok := s.Grant(set.Name); ok {
			fmt.Fprintf(&b, "  held by session %d on %s, epoch %d\n", g.Session, g.Host, g.Epoch)
			if g.Recall != nil {
				fmt.Fprintf(&b, "  recalled%s%s\n", when(g.Recall.To != "", " to "+g.Recall.To), when(g.Recall.Cause != "", ": "+g.Recall.Cause))
			}
		}
	}
	showGroups(&b, s)
	for _, r := range s.Retiring() {
		fmt.Fprintf(&b, "retiring %v from %s: session %d on %s, claim %d\n", r.Address, r.Set, r.Session, r.Host, r.Claim)
	}
	for _, host := range s.DrainedHosts() {
		cause, _ := s.Drained(host)
		fmt.Fprintf(&b, "drained %s%s\n", host, when(cause != "", ": "+cause))
	}
	return b.String()
}

func when(yes bool, text string) string {
	if yes {
		return text
	}
	return ""
}

// rows prints changes with their index and actor.
func rows(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%d %s%s\n", c.Index, when(c.Actor != "", c.Actor+": "), row(c))
	}
	if b.Len() == 0 {
		return "none\n"
	}
	return b.String()
}

func row(c Change) string {
	return c.Kind + when(c.Set+c.Group+c.Topic != "", " "+c.Set+c.Group+c.Topic) + when(c.Broker != "", " broker "+c.Broker) + when(c.Host != "", " host "+c.Host) +
		when(c.Session != 0, fmt.Sprintf(" session %d", c.Session)) + when(c.Epoch != 0, fmt.Sprintf(" epoch %d", c.Epoch)) +
		when(c.Cause != "", ": "+c.Cause)
}
