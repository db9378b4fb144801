package keepalived

import (
	"fmt"
	"net/netip"
	"time"
)

// complete fills in defaults, makes Keepalived's corrections, and checks what depends
// on more than one block.
func (p *parser) complete() {
	g := &p.config.Global
	if g.JSONVersion == 0 {
		g.JSONVersion = 1
	}
	p.garp.complete(p.set)
	for _, d := range p.drafts {
		p.completeInstance(d)
	}
	p.duplicateVRIDs()
	p.completeGroups()
	p.dropWeights()
	for _, d := range p.drafts {
		if !d.lost {
			d.given = d.set
			p.config.Instances = append(p.config.Instances, d.Instance)
		}
	}
	p.completeTracking()
	p.security()
}

// completeInstance makes an Instance of a draft. Errors stop Keepalived's VRRP as a
// whole, and so make the configuration one that must not be used.
func (p *parser) completeInstance(d *draft) {
	if d.VRID == 0 {
		p.error(d.At, "virtual_router_id", fmt.Sprintf("vrrp_instance %s has no virtual_router_id: it cannot run", d.Name), "", 5)
		d.lost = true
	}
	if d.Interface == "" && (!d.Source.IsValid() || len(d.Peers) == 0) {
		p.error(d.At, "interface", fmt.Sprintf("vrrp_instance %s has no interface: it cannot run", d.Name), "", 5)
		d.lost = true
	}
	if !d.set.has("strict_mode") {
		d.Strict = p.config.Global.Strict
	}
	p.completeVersion(d)
	p.completePriority(d)
	p.completeAuth(d)
	p.completeUnicast(d)
	p.completeVMAC(d)
	p.completeCount(d)
	p.completePreempt(d)
	p.completeInterval(d)
	p.completeAccept(d)
	p.completeStrict(d)
	p.garp.fill(d)
	p.completeDefaults(d)
}

func (p *parser) completeVersion(d *draft) {
	if d.family == 0 {
		d.family = 4
	}
	d.IPv6 = d.family == 6
	switch {
	case d.IPv6 && d.Version == 2 && d.Strict:
		p.warn(d.set["version"], "version", fmt.Sprintf("vrrp_instance %s: IPv6 needs version 3, which is used", d.Name), "")
		d.Version = 3
	case d.IPv6 && d.Version == 0:
		d.Version = 3
	case d.Version == 0:
		d.Version = p.config.Global.Version
	}
	if len(d.Addresses) > 0 || d.noVIP && !d.Strict {
		p.linkLocalFirst(d)
		return
	}
	if d.Version == 3 || d.Strict {
		p.error(d.At, "virtual_ipaddress", fmt.Sprintf("vrrp_instance %s has no virtual_ipaddress: it cannot run", d.Name), "", 5)
		d.lost = true
		return
	}
	p.warn(d.At, "virtual_ipaddress", fmt.Sprintf("vrrp_instance %s has no virtual_ipaddress", d.Name), "no_virtual_ipaddress says that none is wanted")
}

// linkLocalFirst checks the first address of IPv6 (RFC 9568 5.2.9).
func (p *parser) linkLocalFirst(d *draft) {
	if !d.IPv6 || len(d.Peers) > 0 || len(d.Addresses) == 0 || d.Addresses[0].Prefix.Addr().IsLinkLocalUnicast() {
		return
	}
	message := fmt.Sprintf("the first IPv6 address of vrrp_instance %s should be a link-local one", d.Name)
	if d.Strict {
		p.warn(d.Addresses[0].At, "virtual_ipaddress", message, "")
	} else {
		p.info(d.Addresses[0].At, "virtual_ipaddress", message, "")
	}
}

func (p *parser) completePriority(d *draft) {
	if d.Priority == 0 {
		d.Priority = defaultPriority
		if d.state == "MASTER" {
			d.Priority = ownerPriority
			p.info(d.At, "priority", fmt.Sprintf("vrrp_instance %s has no priority: with state MASTER it is %d, that of the addresses' owner", d.Name, ownerPriority), "give a priority")
		}
	}
	owner := d.Priority == ownerPriority
	switch {
	case d.state == "":
		d.Active = owner
	case d.Strict && (d.state == "MASTER") != owner:
		p.warn(d.set["state"], "state", "in strict mode state is MASTER with priority 255, and only then", "")
		d.Active = owner
	default:
		d.Active = d.state == "MASTER"
	}
}

func (p *parser) completeAuth(d *draft) {
	at := d.set["auth_type"]
	switch {
	case d.auth == "":
		if d.password != "" {
			p.info(d.set["auth_pass"], "auth_pass", "auth_pass does nothing without auth_type", "")
		}
	case d.Strict:
		p.warn(at, "auth_type", "strict mode has no authentication: it is ignored", "")
	case d.Version == 3:
		p.warn(at, "auth_type", "version 3 has no authentication: it is ignored", "")
	case d.password == "":
		p.warn(at, "auth_type", "there is no auth_pass: authentication is ignored", "")
	case d.auth == "AH" && d.IPv6:
		p.warn(at, "auth_type", "AH does not work with IPv6: it is ignored", "")
	case d.auth == "AH":
		if d.Active && d.Priority != ownerPriority {
			p.warn(at, "auth_type", "AH does not begin as MASTER: state BACKUP is used", "")
		}
		p.error(at, "auth_type", "auth_type AH is not handled: this router and those that use it would not hear each other", "RFC 5798 took AH out; use PASS, or none", 0)
		d.lost = true
	default:
		d.Password = []byte(d.password)
	}
}

func (p *parser) completeUnicast(d *draft) {
	if d.CheckUnicast = d.CheckUnicast || p.set.has("vrrp_check_unicast_src"); len(d.Peers) > 0 {
		if d.Strict {
			p.error(d.set["unicast_peer"], "unicast_peer", "strict mode has no unicast: the instance cannot run", "Keepalived 2.2 lets it pass", 5)
			d.lost = true
		}
		if d.set.has("mcast_dst_ip") {
			p.warn(d.set["mcast_dst_ip"], "mcast_dst_ip", "mcast_dst_ip is ignored: the instance is unicast", "")
			d.Group = netip.Addr{}
		}
		return
	}
	if d.set.has("unicast_ttl") {
		p.warn(d.set["unicast_ttl"], "unicast_ttl", "unicast_ttl is ignored: there are no peers", "")
		d.UnicastTTL = 0
	}
	if d.UnicastFault {
		p.info(d.At, "unicast_fault_no_peer", fmt.Sprintf("vrrp_instance %s has no peers, and so is in Fault", d.Name), "")
		return
	}
	for _, k := range []string{"unicast_peer", "unicast_src_ip", "check_unicast_src", "old_unicast_checksum"} {
		if at, ok := d.set[k]; ok {
			p.warn(at, k, fmt.Sprintf("%s without peers: the instance falls back to multicast", k), "name the peers in unicast_peer, or say unicast_fault_no_peer")
			return
		}
	}
}

func (p *parser) completeVMAC(d *draft) {
	_, base := d.set["vmac_xmit_base"]
	if d.VMAC == nil {
		if base {
			p.warn(d.set["vmac_xmit_base"], "vmac_xmit_base", "vmac_xmit_base is ignored: there is no use_vmac", "")
		}
		return
	}
	at := d.set["use_vmac"]
	if d.VMAC.IPVLAN {
		at = d.set["use_ipvlan"]
	}
	unicast := d.UnicastFault || d.CheckUnicast || d.set.has("unicast_peer") || d.set.has("unicast_src_ip") || d.set.has("old_unicast_checksum")
	switch {
	case unicast && d.Interface == "":
		p.warn(at, "use_vmac", "use_vmac is ignored: it needs an interface", "")
		d.VMAC = nil
		return
	case unicast && !base:
		p.warn(at, "use_vmac", "unicast needs vmac_xmit_base with use_vmac: it is set", "")
		base = true
	}
	if d.Strict && base && !d.VMAC.IPVLAN {
		p.warn(at, "vmac_xmit_base", "strict mode has no vmac_xmit_base: it is ignored", "")
		base = false
	}
	if d.Strict && d.VMAC.MAC != "" {
		p.warn(at, "use_vmac", "strict mode has no MAC address of one's own: it is ignored", "")
		d.VMAC.MAC = ""
	}
	d.VMAC.XmitBase = base
	if d.PromoteSecondary {
		p.warn(d.set["promote_secondaries"], "promote_secondaries", "promote_secondaries is ignored: it is always on with use_vmac", "")
		d.PromoteSecondary = false
	}
	if d.VMAC.IPVLAN && !d.IPv6 && !d.VMAC.Address.IsValid() {
		p.error(at, "use_ipvlan", "use_ipvlan needs an IPv4 address: the instance would be in Fault", "", 5)
	}
}

// Sizes of an advertisement on Ethernet: what is left of 1500 bytes for addresses.
func maxAddresses(d *draft) int {
	room, size := 1500-14-20-8, 4
	if d.Version == 2 {
		room -= passwordLength
	}
	if d.IPv6 {
		room, size = 1500-14-40-8, 16
	}
	return min(255, room/size)
}

func (p *parser) completeCount(d *draft) {
	most := maxAddresses(d)
	if len(d.Addresses) <= most {
		return
	}
	p.warn(d.Addresses[most].At, "virtual_ipaddress", fmt.Sprintf("only %d addresses fit into an advertisement: this one and those after it are set but not advertised", most), "")
	d.Excluded = append(d.Excluded, d.Addresses[most:]...)
	d.Addresses = d.Addresses[:most:most]
}

func (p *parser) completePreempt(d *draft) {
	no, delay := d.set["nopreempt"], d.set["preempt_delay"]
	if !d.Preempt && d.Priority == ownerPriority {
		p.warn(no, "nopreempt", "nopreempt is ignored: priority 255 always preempts", "")
		d.Preempt = true
	}
	if d.Active && !d.Preempt {
		p.warn(no, "nopreempt", "nopreempt is ignored: it does not work with state MASTER", "write state BACKUP on all routers")
		d.Preempt = true
	}
	if d.PreemptDelay == 0 {
		return
	}
	why := ""
	switch {
	case d.Active:
		why = "it does not work with state MASTER"
	case d.Strict:
		why = "strict mode has none"
	case !d.Preempt:
		why = "it does not work with nopreempt"
	default:
		return
	}
	p.warn(delay, "preempt_delay", "preempt_delay is ignored: "+why, "")
	d.PreemptDelay = 0
}

// completeInterval rounds advert_int to what an advertisement can say: whole seconds
// up to 255 in version 2 (RFC 3768 5.3.7), hundredths up to 40.95 s in version 3
// (RFC 9568 5.2.7).
func (p *parser) completeInterval(d *draft) {
	if d.Interval == 0 {
		d.Interval = time.Second
	}
	at, unit, most := d.set["advert_int"], time.Second, 255*time.Second
	if d.Version == 3 {
		unit, most = 10*time.Millisecond, 4095*10*time.Millisecond
	}
	was := d.Interval
	switch {
	case was > most:
		d.Interval = most
	case was%unit != 0:
		d.Interval = max((was + unit/2).Truncate(unit), unit)
	default:
		return
	}
	p.warn(at, "advert_int", fmt.Sprintf("advert_int %s is not possible in version %d: %s is used", inSeconds(was), d.Version, inSeconds(d.Interval)), "routers that use another one do not hear this one")
}

func (p *parser) completeAccept(d *draft) {
	owner := d.Priority == ownerPriority
	if !d.set.has("accept") {
		d.Accept = owner || !d.Strict
	}
	if d.Accept && !owner && d.Strict && d.Version == 2 {
		p.warn(d.set["accept"], "accept", "strict mode has no accept in version 2: it is ignored", "")
		d.Accept = false
	}
}

// completeStrict undoes what strict mode does not allow.
func (p *parser) completeStrict(d *draft) {
	if !d.set.has("lower_prio_no_advert") {
		d.LowerNoAdvert = d.Strict || p.set.has("vrrp_lower_prio_no_advert")
	}
	if !d.set.has("higher_prio_send_advert") {
		d.HigherAdvert = !d.Strict && p.set.has("vrrp_higher_prio_send_advert")
	}
	if d.DownAdverts == 0 {
		d.DownAdverts = p.downAdverts
	}
	if d.DownAdverts == 0 {
		d.DownAdverts = defaultDownAdverts
	}
	if !d.Strict {
		return
	}
	undo := func(on bool, keyword string) bool {
		if on {
			p.warn(d.set[keyword], keyword, keyword+" is ignored: it is fixed in strict mode", "")
		}
		return on
	}
	if undo(!d.LowerNoAdvert, "lower_prio_no_advert") {
		d.LowerNoAdvert = true
	}
	if undo(d.HigherAdvert, "higher_prio_send_advert") {
		d.HigherAdvert = false
	}
	if d.DownAdverts != defaultDownAdverts {
		at := orAt(d.set["down_timer_adverts"], p.set["vrrp_down_timer_adverts"])
		p.warn(at, "down_timer_adverts", fmt.Sprintf("%d is used instead of down_timer_adverts: it is fixed in strict mode", defaultDownAdverts), "")
		d.DownAdverts = defaultDownAdverts
	}
	if undo(d.set.has("garp_lower_prio_repeat") && d.GARP.LowerRepeat > 0, "garp_lower_prio_repeat") {
		d.GARP.LowerRepeat = 0
	}
	if undo(d.set.has("garp_lower_prio_delay") && d.GARP.LowerDelay > 0, "garp_lower_prio_delay") {
		d.GARP.LowerDelay = 0
	}
}

// defaultDownAdverts is RFC 9568's factor of Active_Down_Interval.
const defaultDownAdverts = 3

// completeDefaults takes over what global_defs says for all instances.
func (p *parser) completeDefaults(d *draft) {
	g := &p.config.Global
	if !d.Source.IsValid() {
		d.TrackSource = false
	}
	if !d.set.has("skip_check_adv_addr") {
		d.SkipCheckAddress = g.SkipCheckAddresses
	}
	if !d.set.has("owner_ignore_adverts") {
		d.OwnerIgnores = p.set.has("vrrp_owner_ignore_adverts")
	}
	if !d.set.has("v3_checksum_as_v2") {
		d.ChecksumPlain = p.set.has("v3_checksum_as_v2")
	}
	if !d.set.has("smtp_alert") {
		d.Notify.Email = g.Email.Alert
		if p.emailAlert != nil {
			d.Notify.Email = *p.emailAlert
		}
	}
	if d.Strict && !d.set.has("garp_lower_prio_repeat") {
		d.GARP.LowerRepeat = 0
	}
	if d.Strict && !d.set.has("garp_lower_prio_delay") {
		d.GARP.LowerDelay = 0
	}
}
