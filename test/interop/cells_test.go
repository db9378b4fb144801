package interop

import (
	"slices"
	"time"
)

// The addresses that most cells are about.
const (
	vip4  = "10.77.1.1/32"
	vip4b = "10.77.1.2/32"
	link6 = "fe80::c:1/128"
	vip6  = "fd77::c:1/128"
)

// password is longer than the eight characters that go into an advertisement.
const password = "correct-horse"

// Settings that cells begin with. Each call makes a new one.
func version2(lines ...string) setting {
	return setting{version: 2, interval: time.Second, instances: []instance{{vrid: 51, vips: []string{vip4, vip4b}, lines: lines}}}
}

func version3(lines ...string) setting {
	return setting{version: 3, interval: 100 * time.Millisecond, instances: []instance{{vrid: 51, vips: []string{vip4, vip4b}, lines: lines}}}
}

func version3IPv6(lines ...string) setting {
	return setting{version: 3, interval: 100 * time.Millisecond, instances: []instance{{vrid: 52, vips: []string{link6, vip6}, lines: lines}}}
}

func unicast(s setting, family string) setting {
	i := &s.instances[0]
	i.unicast = true
	i.lines = append(i.lines, "unicast_src_ip {self"+family+"}", "unicast_peer {", "    {peer"+family+"}", "}")
	return s
}

func withPassword(s setting) setting {
	i := &s.instances[0]
	i.password = password[:8]
	i.lines = append(i.lines, "authentication {", "    auth_type PASS", "    auth_pass "+password, "}")
	return s
}

// vmac: both hosts send from one hardware address, and where advertisements do not,
// a switch may learn it from the last packet of the old router. What helps is the
// second burst of announcements.
func vmac(s setting, lines ...string) setting {
	i := &s.instances[0]
	i.lines = append(i.lines, "garp_master_delay 1")
	i.vmac = !slices.Contains(lines, "vmac_xmit_base")
	i.lines = append(append(i.lines, "use_vmac"), lines...)
	return s
}

func every(s setting, interval time.Duration) setting {
	s.interval = interval
	return s
}

func cells() []cell {
	return slices.Concat(wireCells(), electionCells(), eventCells(), frrCells())
}

// wireCells are about the forms of advertisements.
func wireCells() []cell {
	var list []cell
	for _, c := range []cell{
		{name: "v2", setting: version2()},
		{name: "v2 password", setting: withPassword(version2())},
		{name: "v2 unicast", setting: withPassword(unicast(version2(), "4"))},
		{name: "v3 IPv4 1 s", setting: every(version3(), time.Second)},
		{name: "v3 IPv4", setting: version3()},
		{name: "v3 IPv6", setting: version3IPv6()},
		{name: "v3 IPv4 unicast", setting: unicast(version3(), "4")},
		{name: "v3 IPv6 unicast", setting: unicast(version3IPv6(), "6")},
		{name: "v3 IPv4 10 ms", setting: every(version3(), 10*time.Millisecond), alone: true},
		{name: "v3 IPv6 10 ms", setting: every(version3IPv6(), 10*time.Millisecond), alone: true},
		{name: "vmac", setting: vmac(version3())},
		{name: "vmac IPv6", setting: vmac(version3IPv6())},
		{name: "vmac base", setting: vmac(version3(), "vmac_xmit_base")},
		{name: "v2 vmac", setting: vmac(version2())},
	} {
		c.steps = exchange(c.setting)
		if c.setting.version == 2 && len(list) > 0 {
			c.steps = farewell(c.setting)
		}
		list = append(list, c)
	}
	return list
}

// electionCells are about who becomes Active.
func electionCells() []cell {
	nopreempt := version3()
	nopreempt.instances[0].own = [2][]string{{"nopreempt"}, {"nopreempt"}}

	const preemptDelay = 2 * time.Second
	delay := version3()
	delay.instances[0].own = [2][]string{{"preempt_delay 2"}}
	delayed := starts(0, 0, preemptDelay+delay.down(0))
	delayed.wait = preemptDelay

	equal := version3()
	equal.priority = [2]int{100, 100}

	// A Backup router waits for as long as the Active one's interval has it.
	learned := version3()
	learned.second = 50 * time.Millisecond
	learnedSteps := exchange(learned)
	for i := range learnedSteps {
		learnedSteps[i].noisy = true // Keepalived mentions that the intervals differ
	}

	owner := version3()
	owner.priority, owner.state = [2]int{255, 100}, [2]string{"MASTER"}
	owner2 := version2()
	owner2.priority, owner2.state = owner.priority, owner.state

	// What most people write.
	master := withPassword(version2())
	master.state = [2]string{"MASTER"}

	return []cell{
		{name: "nopreempt", setting: nopreempt, steps: []step{
			starts(1, 1, nopreempt.down(1)), starts(0, 1, 0), stops(1, 0, nopreempt.skew(0)), starts(1, 0, 0),
			powerOff(0, 1, nopreempt.down(1)), powerOn(0, 1, 0),
		}},
		{name: "preempt_delay", setting: delay, steps: []step{
			starts(1, 1, delay.down(1)), delayed, stops(0, 1, delay.skew(1)),
		}},
		// Nobody is pushed aside by an equal; where two meet, the higher address wins.
		{name: "equal priorities", setting: equal, steps: []step{
			starts(0, 0, equal.down(0)), starts(1, 0, 0), partition(equal.down(1)), heals(1, equal.interval), stops(1, 0, equal.skew(0)),
		}},
		{name: "v3 learned interval", setting: learned, steps: learnedSteps},
		{name: "partition", setting: version3(), steps: []step{
			startsBoth(0, version3().down(0)), partition(version3().down(1)), heals(0, version3().interval),
		}},
		{name: "priority 255", setting: owner, steps: []step{
			starts(1, 1, owner.down(1)), starts(0, 0, 0), stops(0, 1, owner.skew(1)), starts(0, 0, 0), powerOff(0, 1, owner.down(1)),
		}},
		{name: "v2 state MASTER", setting: master, steps: []step{
			startsBoth(0, master.down(0)), stops(0, 1, master.skew(1)), starts(0, 0, master.down(0)),
		}},
		{name: "v2 priority 255", setting: owner2, steps: []step{startsBoth(0, owner2.down(1)), stops(0, 1, owner2.skew(1)), starts(0, 0, 0)}},
	}
}

// tracked adds a script that fails while a file is there.
func tracked(s setting, weight string) setting {
	s.blocks = append(s.blocks, "vrrp_script chk {", `    script "/usr/bin/test ! -e {disk}/`+maintenance+`"`, "    interval 1", "    fall 1", "    rise 1", "    "+weight, "}")
	i := &s.instances[0]
	i.lines = append(i.lines, "track_script {", "    chk", "}")
	return s
}

// scriptTime is how long a tracked script takes to be noticed: its interval, and
// its run.
const scriptTime = 1500 * time.Millisecond

// eventCells are about what happens to a running pair.
func eventCells() []cell {
	fault := tracked(version3(), "")
	weight := tracked(version3(), "weight -60")
	fault2 := tracked(withPassword(version2()), "")

	group := version3()
	group.group = true
	group.instances = append(group.instances, version3IPv6().instances...)
	group = tracked(group, "")

	restart := version2()
	reload := version2()

	// A Backup that puts up with another list, as Keepalived does from 2.3.3 on, is
	// not Active beside a peer that alone was reloaded.
	alone := version2()
	tolerant := func(p pairing) bool { return p[0].name == "keepalived" && p[1].name == "holdfast" }

	return []cell{
		{name: "reload of the peer alone", setting: alone, only: tolerant, steps: []step{
			startsBoth(0, alone.down(1)), reloadsOne(0, 0, 2*alone.down(1), vip4, "10.77.1.3/32"), reloadsOne(1, 0, 0, vip4, "10.77.1.3/32"),
			stops(0, 1, alone.skew(1)),
		}},
		{name: "script", setting: fault, steps: []step{
			startsBoth(0, fault.down(1)+scriptTime), scriptFails(0, 1, scriptTime+fault.skew(1)), scriptRecovers(0, 0, scriptTime+fault.down(0)),
			scriptFails(1, 0, scriptTime), scriptFails(0, nobody, scriptTime), scriptRecovers(1, 1, scriptTime+fault.down(1)),
		}},
		{name: "script with weight", setting: weight, steps: []step{
			startsBoth(0, weight.down(1)+scriptTime), scriptFails(0, 1, scriptTime+weight.down(1)), scriptRecovers(0, 0, scriptTime+weight.down(0)),
		}},
		{name: "v2 script", setting: fault2, steps: []step{
			startsBoth(0, fault2.down(1)+scriptTime), scriptFails(0, 1, scriptTime+fault2.skew(1)), scriptRecovers(0, 0, scriptTime+fault2.down(0)),
		}},
		{name: "sync group", setting: group, steps: []step{
			startsBoth(0, group.down(1)+scriptTime), scriptFails(0, 1, scriptTime+group.down(1)), scriptRecovers(0, 0, scriptTime+group.down(0)),
			stops(0, 1, 0), starts(0, 0, group.down(0)), powerOff(0, 1, 0),
		}},
		{name: "restart", setting: restart, steps: []step{
			startsBoth(0, restart.down(1)), restarts(1, 0, 0), restarts(0, 0, restart.skew(1)+restart.down(0)),
		}},
		// One that has another list refuses the other's advertisements: both must be
		// told before its patience ends.
		{name: "reload", setting: reload, steps: []step{
			startsBoth(0, reload.down(1)), reloads(0, 1, 0, vip4, "10.77.1.3/32"), reloads(1, 0, 0, vip4b, vip4, "10.77.1.3/32"),
		}},
	}
}

// frrCells are against FRR's vrrpd, which speaks version 3.
func frrCells() []cell {
	ipv4 := version3()
	ipv4.frr = `interface eth0
 vrrp 51 version 3
 vrrp 51 priority {priority}
 vrrp 51 advertisement-interval 100
 vrrp 51 ip 10.77.1.1
 vrrp 51 ip 10.77.1.2
`
	ipv6 := version3IPv6()
	ipv6.frr = `interface eth0
 vrrp 52 version 3
 vrrp 52 priority {priority}
 vrrp 52 advertisement-interval 100
 vrrp 52 ipv6 fe80::c:1
 vrrp 52 ipv6 fd77::c:1
`
	return []cell{
		{name: "frr IPv4", setting: ipv4, steps: exchange(ipv4)},
		{name: "frr IPv6", setting: ipv6, steps: exchange(ipv6)},
	}
}
