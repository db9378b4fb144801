package vrrp

import "net/netip"

// What the IP header of an advertisement has.
const (
	Protocol = 112 // of IPv4, next header of IPv6
	// TTL is the hop limit that is sent, and required of multicast: no packet that a
	// router has forwarded can have it.
	TTL = 255
	// TrafficClass is "internetwork control"; IPv4 calls it type of service.
	TrafficClass = 0xc0
)

// MulticastGroup returns the group of advertisements: 224.0.0.18, or ff02::12.
func MulticastGroup(ip4 bool) netip.Addr {
	if ip4 {
		return netip.AddrFrom4([4]byte{224, 0, 0, 18})
	}
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x12})
}

// VirtualMAC returns the hardware address of a virtual router (RFC 9568, section 7.3).
func VirtualMAC(vrid uint8, ip4 bool) [6]byte {
	family := byte(2)
	if ip4 {
		family = 1
	}
	return [6]byte{0x00, 0x00, 0x5e, 0x00, family, vrid}
}
