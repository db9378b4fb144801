package router

import (
	"context"
	"net/netip"
	"time"

	"holdfast/vipagent/keepalived"
)

// Clock is the time on which advertisements are missed: it only rises, and goes on
// while the host sleeps.
type Clock interface {
	Now() time.Duration
}

// Link is a network interface as it is now.
type Link struct {
	Name  string
	Index int
	Up    bool // switched on and with carrier
	// Addresses of the interface in the kernel's order, VIPs among them.
	Addresses []netip.Prefix
}

// Links are the interfaces of the host.
type Links interface {
	// Links returns all of them.
	Links() ([]Link, error)
	// Watch calls changed after each change of an interface or an address, in its own
	// goroutine, until ctx ends (nil) or it cannot go on. The first call comes when the
	// watch stands.
	Watch(ctx context.Context, changed func()) error
}

// Addresses changes addresses of the host. Interface is filled in.
type Addresses interface {
	// Add brings addresses up that are not up yet; those of others that are there
	// are taken as they are. The error joins one for each that failed.
	Add([]keepalived.Address) error
	// Remove takes down those that we have added; one that is not there is fine. Clear
	// takes down what anybody has added.
	Remove([]keepalived.Address) error
	Clear([]keepalived.Address) error
	// Announce tells the neighbours once where each is.
	Announce([]keepalived.Address) error
	// Promote sets what the kernel does with the secondary addresses of an interface
	// whose primary goes: promote one of them, or remove them all. It returns how it was.
	Promote(iface string, on bool) (was bool, err error)
	// Left returns what bears our mark: a former process left it.
	Left() ([]keepalived.Address, error)
}

// Routes changes routes and rules of the host. What is there already may be added,
// and what is not there removed.
type Routes interface {
	AddRoute(keepalived.Route) error
	RemoveRoute(keepalived.Route) error
	AddRule(keepalived.Rule) error
	RemoveRule(keepalived.Rule) error
}

// MACs makes interfaces with the virtual router's own MAC address.
type MACs interface {
	// Add makes the interface or finds it as it should be, and switches it on.
	Add(MAC) error
	// Remove deletes it; one that is not there is fine.
	Remove(name string) error
	// Left returns those that we have made, now or before.
	Left() ([]string, error)
}

// MAC is an interface on top of another, with the virtual router's MAC address, or the
// parent's (ipvlan).
type MAC struct {
	Name, Parent string
	VRID         uint8
	IPv6         bool
	BothFamilies bool            // it will have addresses of both
	Source       netip.Prefix    // an address of its own; zero = none
	VMAC         keepalived.VMAC // as configured
}

// Endpoint is what one socket is for: the virtual routers of one family on one
// interface that are addressed in the same way.
type Endpoint struct {
	Interface string // "" for unicast: any
	IPv6      bool
	Group     netip.Addr // the multicast group; zero = unicast
	Local     netip.Addr // for unicast: own address; zero = any
}

// Packet is a received packet with protocol 112.
type Packet struct {
	Source, Destination netip.Addr
	TTL                 int
	Message             []byte // without IP header; valid during the call only
}

// Departure says how a message leaves.
type Departure struct {
	Source, Destination netip.Addr
	TTL                 int
}

// Socket sends and receives for an [Endpoint].
type Socket interface {
	Send(message []byte, d Departure) error
	// Receive calls f for each packet until the socket is closed (nil) or fails.
	Receive(f func(Packet)) error
	Close() error
}

// Sockets opens sockets. buffer is the size of the receive buffer, 0 = by default.
type Sockets interface {
	Open(at Endpoint, buffer int) (Socket, error)
}

// Scripts runs programs as other users, without a shell.
type Scripts interface {
	// Prepare says why a program would not be run: not found, or others than root may
	// change it.
	Prepare(keepalived.Command) error
	// Run waits until the program and, when ctx ended first, all of its process group
	// are gone. nil = exit status 0.
	Run(ctx context.Context, c keepalived.Command, extra ...string) error
}

// Surroundings are the files and programs that a configuration names.
type Surroundings interface {
	// Number reads the number in a tracked file; 0 if there is none.
	Number(path string) (int, error)
	// Processes counts the processes that match.
	Processes(keepalived.TrackProcess) (int, error)
	// Tell writes a line to a FIFO, which it makes if it is missing, and does not wait
	// for a reader.
	Tell(path, line string) error
	// Write replaces a file.
	Write(path string, content []byte) error
	// Mail sends a message.
	Mail(ctx context.Context, to keepalived.Email, subject, body string) error
}
