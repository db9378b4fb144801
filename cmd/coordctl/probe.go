package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	// probeEvery is the time between two questions to one address.
	probeEvery = 5 * time.Millisecond
	// probePatience is how long an answer may take.
	probePatience = 500 * time.Millisecond
	// neighbourEvery is how often the neighbour table is read.
	neighbourEvery = 20 * time.Millisecond
)

func (t *tool) probeCommand() *cobra.Command {
	var span time.Duration
	cmd := &cobra.Command{
		Use:   "probe ADDRESS...",
		Short: "Ask addresses all the time, and show how long nobody answered",
		Long: `Ask addresses by ICMP echo every 5 ms, until interrupted or for a time, and show how many questions were lost, the
longest time without an answer, which hardware addresses answered, and who else claims the address by ARP or neighbour
advertisements. Run it on a host that never holds them: to itself a host always answers. An answer counts for 500 ms.

Without root it needs net.ipv4.ping_group_range, and who answers is read from the neighbour table (IPv4 only).
A host that is too busy to ask sees no loss: the table says so if it did not ask for more than 50 ms.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(fmt.Errorf("%s takes addresses", cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if span > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, span)
				defer cancel()
			}
			p, err := startProbe(args)
			if err != nil {
				return err
			}
			t.live(ctx, p)
			a := p.stop()
			return t.printValue(a, a.table, nil)
		},
	}
	cmd.Flags().DurationVar(&span, "for", 0, "stop after this time")
	return cmd
}

// measured runs f while the addresses are asked.
func (t *tool) measured(ctx context.Context, addresses []string, f func(context.Context) error) (answers, error) {
	p, err := startProbe(addresses)
	if err != nil {
		fmt.Fprintln(t.talk, "coordctl: how long nobody answers is not measured:", err)
		return answers{}, f(ctx)
	}
	_ = sleep(ctx, 200*time.Millisecond)
	err = f(ctx)
	_ = sleep(ctx, 300*time.Millisecond)
	return p.stop(), err
}

// liveEvery is how often the live line is written.
const liveEvery = 200 * time.Millisecond

// live shows on a terminal how it stands, until ctx ends.
func (t *tool) live(ctx context.Context, p *probe) {
	if !terminal(t.talk) {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			fmt.Fprint(t.talk, "\r\x1b[K")
			return
		case <-tick.C:
			fmt.Fprint(t.talk, "\r\x1b[K"+p.line(time.Now()))
		}
	}
}

// answers is what a probe has seen.
type answers struct {
	Addresses []addressAnswers `json:"addresses"`
}

// addressAnswers is what it has seen of one address.
type addressAnswers struct {
	Address string `json:"address"`
	Asked   int    `json:"asked"`
	Lost    int    `json:"lost"`
	// Gaps are the times without an answer, LongestMS and TotalMS of them, from the
	// first question that was lost to the next one that was not.
	Gaps      int     `json:"gaps"`
	LongestMS float64 `json:"longest_ms"`
	TotalMS   float64 `json:"total_ms"`
	// PauseMS is the longest time in which this host did not ask: what was lost in it
	// is not counted.
	PauseMS float64 `json:"longest_pause_ms"`
	// Holders are those who answered, by the frames of the answers; without root by this
	// host's neighbour table, which has IPv4 only. Claims are those who said by ARP or
	// neighbour advertisements that they have the address. Each is a list of changes:
	// A, B, A is an address that came back. MoreChanges are those beyond the first 32.
	Holders     []neighbour `json:"holders"`
	Claims      []neighbour `json:"claims"`
	MoreChanges int         `json:"more_changes,omitzero"`
	Local       bool        `json:"local,omitzero"` // this host had the address itself for some of the time
}

// neighbour is who had an address, from when on.
type neighbour struct {
	MAC     string  `json:"mac"`
	SinceMS float64 `json:"since_ms"` // from the beginning
}

func (a answers) table(w io.Writer) {
	if len(a.Addresses) == 0 {
		return
	}
	rows := []string{row("\nADDRESS", "ASKED", "LOST", "LONGEST GAP", "TOTAL", "ANSWERED BY")}
	for _, x := range a.Addresses {
		rows = append(rows, row(x.Address, fmt.Sprint(x.Asked), fmt.Sprint(x.Lost), fmt.Sprintf("%.0f ms", x.LongestMS), fmt.Sprintf("%.0f ms", x.TotalMS), x.who()))
	}
	columns(w, rows...)
}

// longPause is from when on the reader is told that this host did not ask.
const longPause = 50 * time.Millisecond

// who tells who answered, and what makes the figures doubtful.
func (x addressAnswers) who() string {
	const shown = 4
	var by []string
	for _, n := range x.Holders[:min(len(x.Holders), shown)] {
		by = append(by, n.MAC)
	}
	who := dash(strings.Join(by, ", then "))
	if n := len(x.Holders) - len(by) + x.MoreChanges; n > 0 {
		who += fmt.Sprintf(", and %s", plural(n, "change"))
	}
	var silent []string
	for _, c := range x.Claims {
		answers := slices.ContainsFunc(x.Holders, func(h neighbour) bool { return h.MAC == c.MAC })
		if !answers && !slices.Contains(silent, c.MAC) {
			silent = append(silent, c.MAC)
		}
	}
	if len(silent) > 0 {
		who += " (claimed too by " + strings.Join(silent, ", ") + ")"
	}
	if x.PauseMS > ms(longPause) {
		who += fmt.Sprintf(" (this host was busy: it did not ask for %.0f ms)", x.PauseMS)
	}
	if x.Local {
		who += " (this host itself for some time: its figures mean little)"
	}
	return who
}

// probe asks addresses in the background.
type probe struct {
	begun   time.Time
	cancel  context.CancelFunc
	group   sync.WaitGroup
	id      uint16
	sockets map[bool]*icmp.PacketConn // by whether it is IPv6
	tap     *tap                      // nil = not allowed

	mu      sync.Mutex
	targets []*target
}

// target is one address.
type target struct {
	address netip.Addr
	tally   tally
	holders sightings
	claims  sightings
	local   bool
}

func startProbe(addresses []string) (*probe, error) {
	p := &probe{begun: time.Now(), id: uint16(rand.Uint32()), sockets: make(map[bool]*icmp.PacketConn)}
	for _, text := range addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, usageError(fmt.Errorf("%q is no address", text))
		}
		p.targets = append(p.targets, &target{address: a})
		if p.sockets[a.Is6()] == nil {
			s, err := listenICMP(a.Is6())
			if err != nil {
				p.close()
				return nil, err
			}
			p.sockets[a.Is6()] = s
		}
	}
	if tap, err := openTap(); err == nil {
		p.tap = tap
		p.group.Go(p.listen)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	for six, s := range p.sockets {
		p.group.Go(func() { p.receive(s, six) })
	}
	p.group.Go(func() { p.ask(ctx) })
	p.group.Go(func() { p.watch(ctx) })
	return p, nil
}

// listenICMP opens a raw socket, or one that the kernel lets everybody have.
func listenICMP(six bool) (*icmp.PacketConn, error) {
	networks, local := []string{"ip4:icmp", "udp4"}, "0.0.0.0"
	if six {
		networks, local = []string{"ip6:ipv6-icmp", "udp6"}, "::"
	}
	var errs []error
	for _, network := range networks {
		s, err := icmp.ListenPacket(network, local)
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("ask by ICMP: %w\n  run it as root, or allow it: sysctl net.ipv4.ping_group_range", errors.Join(errs...))
}

// ask sends the questions, one to each address at a time.
func (p *probe) ask(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		for i, t := range p.targets {
			p.question(i, t)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *probe) question(index int, t *target) {
	p.mu.Lock()
	sequence := t.tally.ask(time.Now())
	p.mu.Unlock()
	var kind icmp.Type = ipv4.ICMPTypeEcho
	if t.address.Is6() {
		kind = ipv6.ICMPTypeEchoRequest
	}
	data := binary.BigEndian.AppendUint32(nil, uint32(index))
	data = binary.BigEndian.AppendUint32(data, uint32(sequence))
	data = binary.BigEndian.AppendUint16(data, p.id)
	b, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: int(p.id), Seq: sequence & 0xffff, Data: data}}).Marshal(nil)
	if err != nil {
		return
	}
	s := p.sockets[t.address.Is6()]
	var to net.Addr = &net.IPAddr{IP: t.address.AsSlice(), Zone: t.address.Zone()}
	if _, datagram := s.LocalAddr().(*net.UDPAddr); datagram {
		to = &net.UDPAddr{IP: t.address.AsSlice(), Zone: t.address.Zone()}
	}
	_, _ = s.WriteTo(b, to) // what does not leave is lost
}

// receive takes in the answers until the socket is closed.
func (p *probe) receive(s *icmp.PacketConn, six bool) {
	protocol := 1
	if six {
		protocol = 58
	}
	b := make([]byte, 1500)
	for {
		n, _, err := s.ReadFrom(b)
		if err != nil {
			return
		}
		m, err := icmp.ParseMessage(protocol, b[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply && m.Type != ipv6.ICMPTypeEchoReply {
			continue
		}
		echo, ok := m.Body.(*icmp.Echo)
		if !ok || len(echo.Data) != 10 || binary.BigEndian.Uint16(echo.Data[8:]) != p.id {
			continue
		}
		p.answer(int(binary.BigEndian.Uint32(echo.Data)), int(binary.BigEndian.Uint32(echo.Data[4:])))
	}
}

func (p *probe) answer(index, sequence int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index < len(p.targets) {
		p.targets[index].tally.answer(sequence, time.Now())
	}
}

// listen notes who answers, and who claims the addresses, until the tap is closed.
func (p *probe) listen() {
	b := make([]byte, 1500)
	for {
		n, from, err := p.tap.read(b)
		if err != nil {
			return
		}
		if from == nil {
			continue
		}
		if s, ok := sight(bigEndian(from.Protocol), from.Addr[:min(from.Halen, uint8(len(from.Addr)))], b[:n]); ok {
			p.see(s)
		}
	}
}

func (p *probe) see(s sighting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.targets {
		switch {
		case t.address.WithZone("") != s.address:
		case s.claim:
			t.claims.see(s.mac, time.Since(p.begun))
		default:
			t.holders.see(s.mac, time.Since(p.begun))
		}
	}
}

// line is how it stands, in one line.
func (p *probe) line(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var words []string
	for _, t := range p.targets {
		word := fmt.Sprintf("%s: %d asked, %d lost, by %s", t.address, t.tally.asked, t.tally.lost, dash(t.holders.mac))
		heard := t.tally.heard
		if heard.IsZero() {
			heard = p.begun
		}
		if silent := now.Sub(heard); silent > liveEvery/2 {
			word += fmt.Sprintf(", silent for %.1f s", silent.Seconds())
		}
		words = append(words, word)
	}
	return strings.Join(words, " | ")
}

// watch sees whether this host has the addresses itself and, without a tap, follows who
// has them by the neighbour table.
func (p *probe) watch(ctx context.Context) {
	tick := time.NewTicker(neighbourEvery)
	defer tick.Stop()
	for {
		var macs map[netip.Addr]string
		if p.tap == nil {
			macs = neighbours()
		}
		own := ownAddresses()
		p.mu.Lock()
		for _, t := range p.targets {
			t.local = t.local || own[t.address]
			if mac := macs[t.address]; mac != "" {
				t.holders.see(mac, time.Since(p.begun))
			}
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// neighbours reads the kernel's table of IPv4 neighbours.
func neighbours() map[netip.Addr]string {
	out := make(map[netip.Addr]string)
	b, _ := os.ReadFile("/proc/net/arp")
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] == "00:00:00:00:00:00" {
			continue
		}
		if a, err := netip.ParseAddr(f[0]); err == nil {
			out[a] = f[3]
		}
	}
	return out
}

func ownAddresses() map[netip.Addr]bool {
	out := make(map[netip.Addr]bool)
	addresses, _ := net.InterfaceAddrs()
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out[p.Addr()] = true
		}
	}
	return out
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// stop ends the probe. Questions that may still be answered do not count.
func (p *probe) stop() answers {
	p.cancel()
	p.mu.Lock()
	end := time.Now().Add(-probePatience / 5)
	p.mu.Unlock()
	p.close()
	p.group.Wait()
	var out answers
	for _, t := range p.targets {
		out.Addresses = append(out.Addresses, t.summary(end))
	}
	slices.SortFunc(out.Addresses, func(a, b addressAnswers) int { return cmp.Compare(a.Address, b.Address) })
	return out
}

func (p *probe) close() {
	for _, s := range p.sockets {
		_ = s.Close()
	}
	if p.tap != nil {
		_ = p.tap.file.Close()
	}
}

// summary counts the questions until end.
func (t *target) summary(end time.Time) addressAnswers {
	t.tally.finish(end)
	return addressAnswers{
		Address: t.address.String(), Asked: t.tally.asked, Lost: t.tally.lost,
		Gaps: t.tally.gaps, LongestMS: ms(t.tally.longest), TotalMS: ms(t.tally.total), PauseMS: ms(t.tally.pause),
		Holders: append([]neighbour{}, t.holders.list...), Claims: append([]neighbour{}, t.claims.list...),
		MoreChanges: t.holders.more, Local: t.local,
	}
}
