package vrrp

import (
	"net/netip"
	"time"
)

// Config is a virtual router as configured. Times that are zero have their default.
type Config struct {
	Version      uint8 // 2 or 3
	VRID         uint8
	Priority     uint8         // 1..255
	Interval     time.Duration // Advertisement_Interval; see [Advertisement]
	Addresses    []netip.Addr  // as advertised, in order
	Password     []byte        // version 2; nil = none
	Preempt      bool          // a Backup of higher priority takes over
	PreemptDelay time.Duration // from the first advertisement of lower priority on
	// Checksum is the form that is sent. 0 is the version's own, see
	// [Config.Form], and a unicast router goes over to OldUnicast when it hears it.
	Checksum Checksum
	// StartActive is Keepalived's `state MASTER`: a router of priority 255 is Active at
	// once when it starts. With any other priority it changes nothing, and a router
	// of priority 255 without it waits like all others. (Keepalived's source has a
	// shorter wait for other priorities that no configuration comes to: 2.2.7
	// measured, 2.4.3 read. RFC 9568 asks for priority 255 alone.)
	StartActive bool
	DownAdverts int // advertisements that must be missed, 0 = 3
	// LowerNoAdvert: an Active router does not answer an advertisement of lower
	// priority. HigherAdvert: it sends one more before it yields to a higher one.
	LowerNoAdvert, HigherAdvert bool
	// OwnerIgnores: priority 255 does not listen.
	OwnerIgnores bool
	// SkipCheckAddresses: the address list of a router whose list was right before is
	// not compared again. CheckAddresses: an advertisement with another list is
	// discarded (Keepalived up to 2.3.2), else only reported.
	SkipCheckAddresses, CheckAddresses bool
	// LateBackup, with Preempt off, is the highest priority of the others (Keepalived's
	// timer_expired_backup): an Active router whose process stood still for so long
	// that such a one has taken over becomes Backup. 0: it stays Active.
	LateBackup uint8
	// Member of a sync group: its members become Active together, so a Backup that
	// might says [Ready] and waits for [Follow]. See [SyncGroup].
	Member bool
}

// Form returns the form of checksum that is sent over IPv4 or IPv6: version 2 has
// one; over IPv6 there is one; version 3 over IPv4 sends Pseudo as Keepalived does,
// not Plain as RFC 9568 settled on, because a Keepalived that is not told
// v3_checksum_as_v2 discards that.
func (c Config) Form(ip4 bool) Checksum {
	switch {
	case c.Version == 2:
		return Plain
	case !ip4 || c.Checksum == 0:
		return Pseudo
	}
	return c.Checksum
}

// Advertisement returns what a router of this configuration sends, with a priority.
func (c Config) Advertisement(priority uint8) Advertisement {
	return Advertisement{Version: c.Version, VRID: c.VRID, Priority: priority, Interval: c.Interval, Addresses: c.Addresses, Password: c.Password}
}

// defaultDownAdverts is the factor of Active_Down_Interval in the RFCs.
const defaultDownAdverts = 3

// skew returns Skew_Time: the lower the priority, the longer a Backup waits. interval
// is what counts in version 3; version 2 has one second (RFC 3768, section 6.1).
func (c Config) skew(priority uint8, interval time.Duration) time.Duration {
	if c.Version == 2 {
		interval = time.Second
	}
	return time.Duration(256-int64(priority)) * interval / 256
}

// activeDown returns Active_Down_Interval.
func (c Config) activeDown(priority uint8, interval time.Duration) time.Duration {
	adverts := c.DownAdverts
	if adverts == 0 {
		adverts = defaultDownAdverts
	}
	return time.Duration(adverts)*interval + c.skew(priority, interval)
}
