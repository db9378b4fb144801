package keepalived

import (
	"net/netip"
	"time"
)

// Config is the VRRP side of a keepalived.conf, with Keepalived's defaults filled in
// and its corrections made.
type Config struct {
	Global          Global
	Scripts         []Script
	Processes       []TrackProcess
	Files           []TrackFile
	Groups          []SyncGroup
	Instances       []Instance
	StaticAddresses []Address
	StaticRoutes    []Route
	StaticRules     []Rule
	TrackGroups     []TrackGroup
	// OtherBlocks are blocks that are parsed and not handled: virtual_server, ...
	OtherBlocks []string
}

// Position is a place in a file; lines and columns count from 1.
type Position struct {
	File         string
	Line, Column int
}

// Global is global_defs.
type Global struct {
	RouterID             string
	Version              uint8 // vrrp_version; default 2
	Group4, Group6       netip.Addr
	ScriptUser           string // USER [GROUP]; "" = keepalived_script if it exists, else root
	ScriptGroup          string
	ScriptSecurity       bool
	SupplementaryGroups  bool
	NotifyFIFOs          []NotifyFIFO
	NotifyPriorities     bool
	FIFOStatesOnReload   bool
	StartupScript        *Command
	ShutdownScript       *Command
	StartupTimeout       time.Duration
	ShutdownTimeout      time.Duration
	StartupDelay         time.Duration
	DelayAfterBoot       time.Duration
	DynamicInterfaces    bool
	DefaultInterface     string
	SkipCheckAddresses   bool
	Strict               bool
	NetNamespace         string
	Email                Email
	Priority             int // nice of the process; 0 = as it is
	RealtimePriority     int
	NoSwap               bool
	ReloadCheckConfig    bool
	JSONVersion          int
	LogUnknownVRIDs      bool
	IPTables             bool // vrrp_iptables
	NFTables             bool
	StateDump, StatsDump string // files of SIGUSR1 and SIGUSR2
	JSONDump             string
}

// Email is where state changes are mailed to.
type Email struct {
	To             []string
	From           string
	Server         string // host:port
	HELO           string
	ConnectTimeout time.Duration
	Alert          bool // smtp_alert
	NoFaults       bool // no_email_faults
}

// NotifyFIFO gets a line for each change of state.
type NotifyFIFO struct {
	Path   string
	Script *Command // reads it; nil = none
	VRRP   bool     // vrrp_notify_fifo, not notify_fifo
	User   string   // who owns the FIFO; "" = the agent's user
	Group  string
}

// Command is a program with its arguments, run without a shell.
type Command struct {
	Args        []string
	User, Group string // "" = Global's
	At          Position
}

// Script is vrrp_script.
type Script struct {
	Name              string
	Command           Command
	Interval, Timeout time.Duration // defaults 1 s, and the interval
	Weight            int           // -253..253; 0 = Fault while it fails
	Reverse           bool
	Rise, Fall        int
	InitFail          bool
	At                Position
}

// TrackProcess is vrrp_track_process.
type TrackProcess struct {
	Name                string
	Process             string
	Params              []string
	ParamMatch          string // "", initial, partial, none
	FullCommand         bool
	Weight              int
	Reverse             bool
	Quorum, QuorumMax   int
	Delay               time.Duration
	ForkDelay, EndDelay time.Duration
	At                  Position
}

// TrackFile is track_file or vrrp_track_file at the top level.
type TrackFile struct {
	Name     string
	Path     string
	Weight   int
	Reverse  bool
	Init     *int // init_file's value; nil = the file is not written
	InitOver bool // also if it exists
	At       Position
}

// Track is one line of a track_ block: what is tracked and how much it weighs.
type Track struct {
	Name    string // of the interface, script, process or file
	Weight  int    // 0 = Fault, unless the tracked thing says else
	Set     bool   // Weight was given here
	Reverse bool
	At      Position
}

// SyncGroup is vrrp_sync_group.
type SyncGroup struct {
	Name                      string
	Members                   []string
	Notify                    Notify
	Interfaces                []Track
	Scripts, Processes, Files []Track
	TrackingWeight            bool
	At                        Position
}

// TrackGroup is track_group: instances that static addresses depend on.
type TrackGroup struct {
	Name    string
	Members []string
	At      Position
}

// Notify are the scripts of a change of state; nil = none.
type Notify struct {
	Active, Backup, Fault, Stop, Deleted, LowerPriority, Any *Command
	Priorities                                               bool
	Email                                                    bool
}

// Instance is vrrp_instance.
type Instance struct {
	Name      string
	Interface string
	VRID      uint8
	Version   uint8 // 2 or 3
	IPv6      bool
	Active    bool // state MASTER
	Priority  uint8
	Interval  time.Duration
	Preempt   bool
	// PreemptDelay is how long a lower router is left alone.
	PreemptDelay     time.Duration
	Password         []byte // auth_type PASS, cut at eight; nil = none
	Addresses        []Address
	Excluded         []Address
	PromoteSecondary bool
	Routes           []Route
	Rules            []Rule
	Source           netip.Addr // unicast_src_ip or mcast_src_ip; zero = the interface's first
	TrackSource      bool
	Group            netip.Addr // mcast_dst_ip; zero = the protocol's
	Peers            []Peer     // unicast; none = multicast
	UnicastTTL       int        // 0 = 255
	UnicastFault     bool       // unicast_fault_no_peer
	CheckUnicast     bool
	VMAC             *VMAC // use_vmac; nil = the interface's own address
	Accept           bool
	Strict           bool
	ChecksumPlain    bool   // v3_checksum_as_v2
	OldUnicast       string // old_unicast_checksum: "" = find out, "always", "never"
	DontTrackPrimary bool
	LowerNoAdvert    bool
	HigherAdvert     bool
	OwnerIgnores     bool
	DownAdverts      int
	SkipCheckAddress bool
	Interfaces       []Track
	Scripts          []Track
	Processes        []Track
	Files            []Track
	Notify           Notify
	GARP             GARP
	ReceiveBuffer    int
	Debug            int
	At               Position
	given            settings
}

// Where is the place of a keyword of the instance; if it was not given, that of the
// instance.
func (i *Instance) Where(keyword string) Position { return orAt(i.given[keyword], i.At) }

// GARP says how a takeover is announced.
type GARP struct {
	Delay         time.Duration // garp_master_delay: to the second burst; 0 = no second one
	Repeat        int           // garp_master_repeat
	Refresh       time.Duration // 0 = never
	RefreshRepeat int
	LowerDelay    time.Duration
	LowerRepeat   int
	Interval      time.Duration // between two ARPs
	NAInterval    time.Duration
}

// Peer is one line of unicast_peer.
type Peer struct {
	Address        netip.Addr
	MinTTL, MaxTTL int // 0 = not checked
}

// VMAC is use_vmac or use_ipvlan.
type VMAC struct {
	Name     string // of the interface; "" = vrrp.VRID
	MAC      string // as it was written: six octets, or five to which the VRID is added; "" = the RFC's
	XmitBase bool   // advertisements leave on the parent interface
	IPVLAN   bool
	Mode     string       // of an ipvlan: bridge, private, vepa; "" = bridge
	Address  netip.Prefix // of an ipvlan
}

// Address is a virtual or static address.
type Address struct {
	Prefix    netip.Prefix
	Interface string // "" = the instance's
	Label     string
	Scope     string // as ip(8) names it; "" = by default
	Broadcast netip.Addr
	Peer      netip.Prefix
	NoTrack   bool
	// TrackGroup names the TrackGroup that a static address depends on; "" = none.
	TrackGroup string
	// Options are home, mngtmpaddr, noprefixroute, autojoin, -nodad, use_vmac, and
	// preferred_lft with its value as the next element.
	Options []string
	At      Position
}

// Route is a virtual or static route, in the words of ip(8).
type Route struct {
	Words      []string // "192.168.2.0/24", "via", "10.0.0.1", "dev", "eth0", ...
	NoTrack    bool
	TrackGroup string // of a static one; "" = none
	At         Position
}

// Rule is a virtual or static rule, in the words of ip(8).
type Rule struct {
	Words      []string
	NoTrack    bool
	TrackGroup string // of a static one; "" = none
	At         Position
}
