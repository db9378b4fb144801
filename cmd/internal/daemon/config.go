package daemon

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"time"

	"holdfast/vipagent/health"
)

// Coordinator is the effective configuration of one coordinator:
// coordinator.yaml with defaults filled in and flags applied.
// deploy/coordinator.yaml shows every key with its default.
type Coordinator struct {
	Name            string     `yaml:"name" help:"this coordinator's name, unique in the cluster"`
	DataDir         string     `yaml:"data_dir" help:"directory of the Raft log, snapshots and lease marks"`
	Bind            netip.Addr `yaml:"bind" help:"IP that the gossip, raft and api listeners bind to"`
	Advertise       netip.Addr `yaml:"advertise" help:"IP at which others reach this host (default: bind)"`
	Seeds           []string   `yaml:"seeds" help:"gossip addresses host:port to join through"`
	BootstrapExpect int        `yaml:"bootstrap_expect" help:"how many coordinators found a new cluster together"`
	Gossip          Gossip     `yaml:"gossip"`
	Raft            Raft       `yaml:"raft"`
	API             API        `yaml:"api"`
	Lease           Lease      `yaml:"lease"`
	Log             Log        `yaml:"log"`
	TLS             string     `yaml:"tls" help:"must say off: this version has no transport security"`
}

// Agent is the effective configuration of one vipagent: vipagent.yaml with
// defaults filled in and flags applied. deploy/vipagent.yaml shows every key
// with its default.
type Agent struct {
	Host       string         `yaml:"host" help:"this host's name, as the candidates of VIP sets name it"`
	Bind       netip.Addr     `yaml:"bind" help:"IP that the gossip listener binds to"`
	Advertise  netip.Addr     `yaml:"advertise" help:"IP at which others reach this host (default: bind)"`
	Seeds      []string       `yaml:"seeds" help:"gossip addresses host:port of coordinators to join through"`
	Gossip     Gossip         `yaml:"gossip"`
	TTL        time.Duration  `yaml:"ttl" help:"length of the lease: a dead host's addresses are free after about this"`
	Renew      time.Duration  `yaml:"renew" help:"interval of renewals (default: ttl/6)"`
	StateDir   string         `yaml:"state_dir" help:"tmpfs directory of the session file and its lock"`
	Fence      string         `yaml:"fence" help:"what the kernel holds leases with: auto, ebpf, nft (weaker) or none"`
	BPFDir     string         `yaml:"bpf_dir" help:"directory on a bpffs where the eBPF fence is pinned"`
	Announce   Announce       `yaml:"announce"`
	Interfaces []string       `yaml:"interfaces" help:"interfaces that may carry VIPs (default: all)"`
	Checks     []health.Check `yaml:"checks"`
	Guardian   bool           `yaml:"guardian" help:"run the agent as a child that is started again at once when it dies"`
	Log        Log            `yaml:"log"`
	TLS        string         `yaml:"tls" help:"must say off: this version has no transport security"`
}

// Gossip is the membership and renewal-datagram listener (UDP and TCP).
type Gossip struct {
	Port int `yaml:"port" help:"gossip port, UDP and TCP"`
	// Keys has the file's keys or, after [Load], those of KeyFile. The first
	// encrypts, all decrypt.
	Keys    []Key  `yaml:"keys" flag:"-"`
	KeyFile string `yaml:"key_file" help:"file with one base64 gossip key per line, the first encrypts"`
}

// Raft is the consensus listener and its timing. The timing decides how soon a
// dead leader is replaced; it is independent of any agent's ttl.
type Raft struct {
	Port         int           `yaml:"port" help:"Raft port, TCP"`
	Heartbeat    time.Duration `yaml:"heartbeat" help:"a follower that hears nothing for this long becomes a candidate"`
	Election     time.Duration `yaml:"election" help:"a candidate without a result starts again after this long"`
	LeaderLease  time.Duration `yaml:"leader_lease" help:"a leader that reaches no majority for this long steps down"`
	StoreTimeout time.Duration `yaml:"store_timeout" help:"a write to the data directory that takes longer makes a leader step down"`
}

// API is the gRPC listener for agents and operators (TCP).
type API struct {
	Port int `yaml:"port" help:"API port, TCP"`
}

// Lease bounds the error of any host's clock against real time: a promise lasts
// ttl*(1+Rho)/(1-Rho) + Margin. It must be the same on every coordinator.
type Lease struct {
	Rho    float64       `yaml:"rho" help:"bound on the rate error of each clock, as a fraction"`
	Margin time.Duration `yaml:"margin" help:"added to every promise"`
}

// Announce is when gratuitous ARP and unsolicited NA are sent again after the
// burst at takeover.
type Announce struct {
	RepeatAfter time.Duration `yaml:"repeat_after" help:"announce once more this long after a takeover"`
	Refresh     time.Duration `yaml:"refresh" help:"announce held addresses at this interval (0: never)"`
}

// Log is where and how much is logged: to stderr, from Level on.
type Log struct {
	Level  string `yaml:"level" help:"debug, info, warn or error"`
	Format string `yaml:"format" help:"text or json"`
}

// Key is one gossip key. It prints as "(hidden)" everywhere.
type Key [32]byte

// UnmarshalText reads the base64 form of exactly 32 bytes.
func (k *Key) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("not base64")
	}
	if len(b) != len(k) {
		return fmt.Errorf("%d bytes long, must be %d", len(b), len(k))
	}
	copy(k[:], b)
	return nil
}

// MarshalText hides the key.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// String hides the key.
func (k Key) String() string { return "(hidden)" }

// GoString hides the key.
func (k Key) GoString() string { return k.String() }

// Raw returns the keys in the form that gossip takes; the first encrypts.
func (g Gossip) Raw() [][]byte {
	out := make([][]byte, len(g.Keys))
	for i := range g.Keys {
		out[i] = append([]byte(nil), g.Keys[i][:]...)
	}
	return out
}

// GossipAddr is where the gossip listener binds.
func (c Coordinator) GossipAddr() netip.AddrPort { return addrPort(c.Bind, c.Gossip.Port) }

// RaftAddr is where the Raft listener binds.
func (c Coordinator) RaftAddr() netip.AddrPort { return addrPort(c.Bind, c.Raft.Port) }

// APIAddr is where the API listener binds.
func (c Coordinator) APIAddr() netip.AddrPort { return addrPort(c.Bind, c.API.Port) }

// AdvertiseGossip is the gossip address that others are told.
func (c Coordinator) AdvertiseGossip() netip.AddrPort { return addrPort(c.Advertise, c.Gossip.Port) }

// AdvertiseRaft is the Raft address that others are told.
func (c Coordinator) AdvertiseRaft() netip.AddrPort { return addrPort(c.Advertise, c.Raft.Port) }

// AdvertiseAPI is the API address that others are told.
func (c Coordinator) AdvertiseAPI() netip.AddrPort { return addrPort(c.Advertise, c.API.Port) }

// GossipAddr is where the gossip listener binds.
func (a Agent) GossipAddr() netip.AddrPort { return addrPort(a.Bind, a.Gossip.Port) }

// AdvertiseGossip is the gossip address that others are told.
func (a Agent) AdvertiseGossip() netip.AddrPort { return addrPort(a.Advertise, a.Gossip.Port) }

func addrPort(ip netip.Addr, port int) netip.AddrPort {
	return netip.AddrPortFrom(ip, uint16(port))
}

// defaultCoordinator is what an empty coordinator.yaml means.
func defaultCoordinator() Coordinator {
	return Coordinator{
		DataDir:         "/var/lib/holdfast",
		BootstrapExpect: 3,
		Gossip:          Gossip{Port: 7950},
		Raft: Raft{
			Port:         7951,
			Heartbeat:    250 * time.Millisecond,
			Election:     250 * time.Millisecond,
			LeaderLease:  125 * time.Millisecond,
			StoreTimeout: time.Second,
		},
		API:   API{Port: 7952},
		Lease: Lease{Rho: 0.001, Margin: 10 * time.Millisecond},
		Log:   Log{Level: "info", Format: "text"},
	}
}

// defaultAgent is what an empty vipagent.yaml means; renew follows ttl.
func defaultAgent() Agent {
	return Agent{
		Gossip:   Gossip{Port: 7953},
		TTL:      time.Second,
		StateDir: "/run/holdfast",
		Fence:    "auto",
		BPFDir:   "/sys/fs/bpf/holdfast",
		Announce: Announce{RepeatAfter: time.Second, Refresh: time.Minute},
		Guardian: true,
		Log:      Log{Level: "info", Format: "text"},
	}
}
