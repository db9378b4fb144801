package daemon

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Broker is the effective configuration of one brokerd: brokerd.yaml with defaults
// filled in and flags applied. deploy/brokerd.yaml shows every key with its default.
type Broker struct {
	Name        string        `yaml:"name" help:"this broker's name, as the members of groups name it"`
	Group       string        `yaml:"group" help:"the broker group that it is a member of"`
	DataDir     string        `yaml:"data_dir" help:"directory of the commit log"`
	Bind        netip.Addr    `yaml:"bind" help:"IP that the listeners bind to"`
	Advertise   netip.Addr    `yaml:"advertise" help:"IP at which others, clients among them, reach this host (default: bind)"`
	Seeds       []string      `yaml:"seeds" help:"gossip addresses host:port of coordinators to join through"`
	Gossip      Gossip        `yaml:"gossip"`
	TTL         time.Duration `yaml:"ttl" help:"length of the lease: a dead master is replaced after about this"`
	Renew       time.Duration `yaml:"renew" help:"interval of renewals (default: ttl/6)"`
	Clients     Clients       `yaml:"clients"`
	Replication Replication   `yaml:"replication"`
	Commitlog   Commitlog     `yaml:"commitlog"`
	Retention   Retention     `yaml:"retention"`
	Topics      Topics        `yaml:"topics"`
	Log         Log           `yaml:"log"`
	TLS         string        `yaml:"tls" help:"must say off: this version has no transport security"`
}

// Clients is the listener of RocketMQ's gRPC clients (TCP).
type Clients struct {
	Port int `yaml:"port" help:"port of RocketMQ's gRPC clients, TCP"`
}

// Replication is what brokers of a group have to do with each other.
type Replication struct {
	Port int `yaml:"port" help:"port of the other brokers of the group, TCP"`
	// Lag is how long a member of the in-sync set may be behind before the master takes
	// it out.
	Lag time.Duration `yaml:"lag" help:"a member of the in-sync set that is behind for so long is taken out of it"`
}

// Commitlog is how the log is written.
type Commitlog struct {
	Flush   string        `yaml:"flush" help:"sync: nothing counts before it is on the disk; async: the disk follows within interval"`
	Every   time.Duration `yaml:"interval" help:"between two flushes with flush: async"`
	Segment Size          `yaml:"segment" help:"size of one file of the log"`
}

// Retention is when the oldest segments are deleted.
type Retention struct {
	Age  time.Duration `yaml:"age" help:"segments whose newest message is older are deleted (0s: never)"`
	Size Size          `yaml:"size" help:"the oldest segments go when the log is larger (0B: never)"`
	Free Size          `yaml:"free" help:"with less free space on the disk writes are refused"`
}

// Topics is what becomes of a topic that does not exist.
type Topics struct {
	Create bool `yaml:"create" help:"a producer's first message to a topic creates it"`
	Queues int  `yaml:"queues" help:"queues per group of a topic that is created so"`
}

// Size is a number of bytes; its text is a whole number with a unit.
type Size int64

// Units of a [Size].
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

func sizeUnits() []struct {
	name string
	size Size
} {
	return []struct {
		name string
		size Size
	}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1}}
}

// UnmarshalText reads "64MiB".
func (s *Size) UnmarshalText(text []byte) error {
	for _, u := range sizeUnits() {
		number, ok := strings.CutSuffix(string(text), u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 0 || n > (1<<62)/int64(u.size) {
			return fmt.Errorf("%q is no size", text)
		}
		*s = Size(n) * u.size
		return nil
	}
	return fmt.Errorf("%q has no unit: B, KiB, MiB, GiB or TiB", text)
}

// MarshalText writes the largest unit that leaves a whole number.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String is the same text.
func (s Size) String() string {
	for _, u := range sizeUnits() {
		if s >= u.size && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// GossipAddr is where the gossip listener binds.
func (b Broker) GossipAddr() netip.AddrPort { return addrPort(b.Bind, b.Gossip.Port) }

// AdvertiseGossip is the gossip address that others are told.
func (b Broker) AdvertiseGossip() netip.AddrPort { return addrPort(b.Advertise, b.Gossip.Port) }

// ClientsAddr is where the listener of clients binds.
func (b Broker) ClientsAddr() netip.AddrPort { return addrPort(b.Bind, b.Clients.Port) }

// AdvertiseClients is the address that clients are told.
func (b Broker) AdvertiseClients() netip.AddrPort { return addrPort(b.Advertise, b.Clients.Port) }

// ReplicationAddr is where the listener of other brokers binds.
func (b Broker) ReplicationAddr() netip.AddrPort { return addrPort(b.Bind, b.Replication.Port) }

// AdvertiseReplication is the address that other brokers are told.
func (b Broker) AdvertiseReplication() netip.AddrPort {
	return addrPort(b.Advertise, b.Replication.Port)
}

// defaultBroker is what an empty brokerd.yaml means; renew follows ttl.
func defaultBroker() Broker {
	return Broker{
		DataDir:     "/var/lib/holdfast/broker",
		Gossip:      Gossip{Port: 7954},
		TTL:         time.Second,
		Clients:     Clients{Port: 8081},
		Replication: Replication{Port: 7955, Lag: 10 * time.Second},
		Commitlog:   Commitlog{Flush: "sync", Every: 500 * time.Millisecond, Segment: GiB},
		Retention:   Retention{Age: 72 * time.Hour, Free: GiB},
		Topics:      Topics{Create: true, Queues: 4},
		Log:         Log{Level: "info", Format: "text"},
	}
}

// BrokerFile is brokerd.yaml.
func BrokerFile() File[Broker] {
	return File[Broker]{program: "brokerd", path: "/etc/holdfast/brokerd.yaml", defaults: defaultBroker, check: checkBroker}
}

// Limits of a broker's settings.
const (
	minSegment = MiB
	maxSegment = 4 * GiB
	maxQueues  = 1024
)

func checkBroker(cfg *Broker, c *checker) {
	c.hostName("name", cfg.Name, "the name by which broker groups list this broker as a member")
	c.hostName("group", cfg.Group, "the broker group that this broker is a member of, as in: coordctl broker put")
	c.directory("data_dir", cfg.DataDir)
	c.reach(cfg.Bind, &cfg.Advertise)
	if len(cfg.Seeds) == 0 {
		c.failHint("seeds", "list the gossip address of at least one coordinator, e.g. seeds: [192.0.2.11:7950]", "seeds is missing")
	}
	c.seeds(cfg.Seeds, defaultCoordinator().Gossip.Port)
	c.gossip(cfg.Gossip)
	checkTTL(cfg.TTL, &cfg.Renew, c)
	c.port("clients.port", cfg.Clients.Port)
	c.port("replication.port", cfg.Replication.Port)
	c.distinct(map[string]int{"gossip.port": cfg.Gossip.Port, "clients.port": cfg.Clients.Port, "replication.port": cfg.Replication.Port},
		"gossip.port", "clients.port", "replication.port")
	c.between("replication.lag", cfg.Replication.Lag, 100*time.Millisecond, 10*time.Minute)
	checkCommitlog(cfg.Commitlog, c)
	if cfg.Retention.Age != 0 {
		c.between("retention.age", cfg.Retention.Age, time.Minute, 10*365*24*time.Hour)
	}
	if s := cfg.Retention.Size; s != 0 && s < 2*cfg.Commitlog.Segment {
		c.fail("retention.size", "retention.size is %s, must be 0B or at least two segments (%s)", s, 2*cfg.Commitlog.Segment)
	}
	if cfg.Topics.Queues < 1 || cfg.Topics.Queues > maxQueues {
		c.fail("topics.queues", "topics.queues is %d, must be 1 to %d", cfg.Topics.Queues, maxQueues)
	}
	c.log(cfg.Log)
	c.tls(cfg.TLS)
}

func checkCommitlog(l Commitlog, c *checker) {
	switch l.Flush {
	case "sync":
	case "async":
		c.warn("commitlog.flush", "commitlog.flush is async: what power loss takes from all replicas at once is lost, also of acknowledged messages")
	default:
		kinds := []string{"sync", "async"}
		c.failHint("commitlog.flush", didYouMean(l.Flush, kinds), "commitlog.flush is %q, must be one of %s", l.Flush, quoteAll(kinds))
	}
	c.between("commitlog.interval", l.Every, time.Millisecond, time.Minute)
	if l.Segment < minSegment || l.Segment > maxSegment {
		c.fail("commitlog.segment", "commitlog.segment is %s, must be %s to %s", l.Segment, minSegment, maxSegment)
	}
}
