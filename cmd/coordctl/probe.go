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
longest time without an answer, and which hardware address answered when (IPv4). Run it on a host that never holds them:
to itself a host always answers. Without root it needs net.ipv4.ping_group_range.`,
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
			<-ctx.Done()
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
	Gaps      int         `json:"gaps"`
	LongestMS float64     `json:"longest_ms"`
	TotalMS   float64     `json:"total_ms"`
	Holders   []neighbour `json:"holders"`
	Local     bool        `json:"local,omitzero"` // this host had the address itself for some of the time
}

// neighbour is who had an IPv4 address, by the neighbour table of this host.
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
		var by []string
		for _, n := range x.Holders {
			by = append(by, n.MAC)
		}
		who := dash(strings.Join(by, ", then "))
		if x.Local {
			who += " (this host itself for some time: its figures mean little)"
		}
		rows = append(rows, row(x.Address, fmt.Sprint(x.Asked), fmt.Sprint(x.Lost), fmt.Sprintf("%.0f ms", x.LongestMS), fmt.Sprintf("%.0f ms", x.TotalMS), who))
	}
	columns(w, rows...)
}

// probe asks addresses in the background.
type probe struct {
	begun   time.Time
	cancel  context.CancelFunc
	group   sync.WaitGroup
	id      uint16
	sockets map[bool]*icmp.PacketConn // by whether it is IPv6

	mu      sync.Mutex
	targets []*target
}

// target is one address.
type target struct {
	address  netip.Addr
	asked    []time.Time // by sequence number, without end
	answered []bool
	holders  []neighbour
	local    bool
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
	sequence := len(t.asked)
	t.asked, t.answered = append(t.asked, time.Now()), append(t.answered, false)
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
	if index >= len(p.targets) || sequence >= len(p.targets[index].asked) {
		return
	}
	if t := p.targets[index]; time.Since(t.asked[sequence]) < probePatience {
		t.answered[sequence] = true
	}
}

// watch follows who has the addresses, by this host's neighbour table.
func (p *probe) watch(ctx context.Context) {
	tick := time.NewTicker(neighbourEvery)
	defer tick.Stop()
	for {
		macs, own := neighbours(), ownAddresses()
		p.mu.Lock()
		for _, t := range p.targets {
			t.local = t.local || own[t.address]
			mac := macs[t.address]
			if n := len(t.holders); mac != "" && (n == 0 || t.holders[n-1].MAC != mac) {
				t.holders = append(t.holders, neighbour{mac, ms(time.Since(p.begun))})
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
}

// summary finds the gaps among the questions before end.
func (t *target) summary(end time.Time) addressAnswers {
	out := addressAnswers{Address: t.address.String(), Holders: t.holders, Local: t.local}
	var since time.Time // of the gap, zero = none
	last := end
	close := func(at time.Time) {
		if since.IsZero() {
			return
		}
		gap := ms(at.Sub(since))
		out.Gaps, out.TotalMS, out.LongestMS = out.Gaps+1, out.TotalMS+gap, max(out.LongestMS, gap)
		since = time.Time{}
	}
	for i, at := range t.asked {
		if at.After(end) {
			break
		}
		out.Asked++
		last = at
		if t.answered[i] {
			close(at)
			continue
		}
		out.Lost++
		if since.IsZero() {
			since = at
		}
	}
	close(last.Add(probeEvery))
	return out
}
