package keepalived

// topKeywords are the blocks, and what stands beside them.
func topKeywords() []keyword {
	return []keyword{
		{name: "global_defs", shape: nested, body: inGlobal, handle: setGlobal},
		{name: "vrrp_instance", shape: nested, body: inInstance, handle: setInstance},
		{name: "vrrp_sync_group", shape: nested, body: inSyncGroup, handle: setSyncGroup},
		{name: "vrrp_script", shape: nested, body: inScript, args: 1, handle: setScript},
		{name: "vrrp_track_process", shape: nested, body: inProcess, args: 1, handle: setProcess},
		{name: "track_file", shape: nested, body: inFile, args: 1, handle: setTrackFile},
		{name: "vrrp_track_file", shape: nested, body: inFile, args: 1, handle: setTrackFile},
		{name: "track_group", shape: nested, body: inTrackGroup, handle: setTrackGroup},
		{name: "garp_group", shape: nested, body: inGARPGroup, handle: setGARPGroup},
		{name: "static_ipaddress", shape: items, handle: setStaticAddresses},
		{name: "static_routes", shape: items, handle: setStaticRoutes},
		{name: "static_rules", shape: items, handle: setStaticRules},
		{name: "net_namespace", args: 1, handle: setNetNamespace},
		{name: "linkbeat_use_polling", reason: "link state comes from netlink alone; drivers that do not report it there are not polled"},
		{name: "linkbeat_interfaces", shape: items, reason: "link state comes from netlink alone; drivers that do not report it there are not polled"},
		{name: "interface_up_down_delays", shape: items, reason: "a change of link state counts at once"},
		{name: "net_namespace_ipvs", args: 1, reason: "Holdfast does no LVS"},
		{name: "namespace_with_ipsets", reason: "Holdfast makes no ipsets"},
		{name: "use_pid_dir", reason: "there are no PID files: the service manager knows the process"},
		{name: "instance", args: 1, reason: "it names PID files and processes, which several agents of a host do not share"},
		{name: "child_wait_time", args: 1, reason: "there are no child processes to wait for"},
	}
}

// instanceKeywords are those of vrrp_instance.
func instanceKeywords() []keyword {
	return within(inInstance, []keyword{
		{name: "interface", args: 1, handle: setInterface},
		{name: "virtual_router_id", args: 1, handle: setVRID},
		{name: "priority", args: 1, handle: setPriority},
		{name: "state", args: 1, handle: setState},
		{name: "version", args: 1, handle: setVersion},
		{name: "advert_int", args: 1, handle: setInterval},
		{name: "virtual_ipaddress", shape: items, handle: setAddresses},
		{name: "virtual_ipaddress_excluded", shape: items, handle: setExcluded},
		{name: "no_virtual_ipaddress", handle: switchOn(func(d *draft) *bool { return &d.noVIP })},
		{name: "promote_secondaries", handle: switchOn(func(d *draft) *bool { return &d.PromoteSecondary })},
		{name: "virtual_routes", shape: items, handle: setRoutes},
		{name: "virtual_rules", shape: items, handle: setRules},
		{name: "preempt", handle: setPreempt},
		{name: "nopreempt", handle: setPreempt},
		{name: "preempt_delay", args: 1, handle: setPreemptDelay},
		{name: "authentication", shape: nested, body: inAuth, handle: setAuthentication},
		{name: "auth_hmac", shape: nested, body: inHMAC, reason: "advertisements with the trailer of Keepalived 2.4 are neither sent nor understood"},
		{name: "unicast_peer", shape: items, handle: setPeers},
		{name: "unicast_src_ip", args: 1, handle: setSource},
		{name: "unicast_ttl", args: 1, handle: setUnicastTTL},
		{name: "unicast_fault_no_peer", handle: switchOn(func(d *draft) *bool { return &d.UnicastFault })},
		{name: "check_unicast_src", handle: switchOn(func(d *draft) *bool { return &d.CheckUnicast })},
		{name: "old_unicast_checksum", handle: setOldChecksum},
		{name: "v3_checksum_as_v2", handle: onOff(func(d *draft) *bool { return &d.ChecksumPlain })},
		{name: "mcast_src_ip", args: 1, handle: setSource},
		{name: "mcast_dst_ip", args: 1, handle: setMulticast},
		{name: "track_src_ip", handle: switchOn(func(d *draft) *bool { return &d.TrackSource })},
		{name: "native_ipv6", handle: setNativeIPv6},
		{name: "use_vmac", handle: setVMAC},
		{name: "use_ipvlan", handle: setIPVLAN},
		{name: "vmac_xmit_base", handle: setXmitBase},
		{name: "use_vmac_addr", reason: "addresses on other interfaces than the instance's get no virtual MAC of their own"},
		{name: "accept", handle: setAccept},
		{name: "no_accept", handle: setAccept},
		{name: "strict_mode", handle: onOff(func(d *draft) *bool { return &d.Strict })},
		{name: "dont_track_primary", handle: switchOn(func(d *draft) *bool { return &d.DontTrackPrimary })},
		{name: "track_interface", shape: items, handle: trackBy(trackedInterfaces, func(d *draft) *[]Track { return &d.Interfaces })},
		{name: "track_script", shape: items, handle: trackBy(trackedScripts, func(d *draft) *[]Track { return &d.Scripts })},
		{name: "track_process", shape: items, handle: trackBy(trackedProcesses, func(d *draft) *[]Track { return &d.Processes })},
		{name: "track_file", shape: items, handle: trackBy(trackedFiles, func(d *draft) *[]Track { return &d.Files })},
		{name: "track_bfd", shape: items, reason: "a BFD session that goes down does not put the instance into fault"},
		{name: "notify", args: 1, handle: notifyBy(func(n *Notify) **Command { return &n.Any })},
		{name: "notify_master", args: 1, handle: notifyBy(func(n *Notify) **Command { return &n.Active })},
		{name: "notify_backup", args: 1, handle: notifyBy(func(n *Notify) **Command { return &n.Backup })},
		{name: "notify_fault", args: 1, handle: notifyBy(func(n *Notify) **Command { return &n.Fault })},
		{name: "notify_stop", args: 1, handle: notifyBy(func(n *Notify) **Command { return &n.Stop })},
		{name: "notify_deleted", handle: setNotifyDeleted},
		{name: "notify_master_rx_lower_pri", args: 1, handle: notifyBy(func(n *Notify) **Command { return &n.LowerPriority })},
		{name: "notify_priority_changes", handle: onOff(func(d *draft) *bool { return &d.Notify.Priorities })},
		{name: "smtp_alert", handle: onOff(func(d *draft) *bool { return &d.Notify.Email })},
		{name: "skip_check_adv_addr", handle: setSkipCheck},
		{name: "lower_prio_no_advert", handle: onOff(func(d *draft) *bool { return &d.LowerNoAdvert })},
		{name: "higher_prio_send_advert", handle: onOff(func(d *draft) *bool { return &d.HigherAdvert })},
		{name: "owner_ignore_adverts", handle: onOff(func(d *draft) *bool { return &d.OwnerIgnores })},
		{name: "down_timer_adverts", args: 1, handle: setDownAdverts},
		{name: "kernel_rx_buf_size", args: 1, soft: true, handle: setReceiveBuffer},
		{name: "debug", args: 1, handle: setDebug},
		{name: "vrf", args: 1, handle: setVRF, reason: "advertisements are sent and heard in the VRF that the interface is in, and in no other"},
		{name: "linkbeat_use_polling", reason: "link state comes from netlink alone; drivers that do not report it there are not polled", obsolete: "linkbeat_interfaces"},
		{name: "timer_expired_backup", reason: "it makes a MASTER whose process stood still BACKUP; here it stays MASTER until it hears another one, and of a quorum the fence ends it"},
		{name: "thread_timer_expired", reason: "it makes a MASTER whose process stood still BACKUP; here it stays MASTER until it hears another one, and of a quorum the fence ends it"},
		{name: "garp_extra_if", reason: "gratuitous ARPs leave on the interface of the address alone"},
		{name: "vmac_garp_intvl", reason: "gratuitous ARPs leave on the interface of the address alone", obsolete: "garp_extra_if"},
		{name: "lvs_sync_daemon_interface", args: 1, reason: "Holdfast does no LVS, and so synchronizes none of its connections", obsolete: "lvs_sync_daemon in global_defs"},
	}, within(inAuth, []keyword{
		{name: "auth_type", args: 1, handle: setAuthType},
		{name: "auth_pass", args: 1, handle: setAuthPass},
	}), within(inHMAC, reported("part of auth_hmac, which is neither sent nor understood",
		"key", "active_key", "time_window", "anti_replay", "mode")))
}

// garpKeywords say how often and how fast a takeover is announced.
func garpKeywords() []keyword {
	words := within(inGARPGroup, []keyword{
		{name: "garp_interval", args: 1, handle: setGroupInterval},
		{name: "gna_interval", args: 1, handle: setGroupInterval},
		{name: "interface", args: 1, handle: setGroupInterface},
		{name: "interfaces", shape: items, handle: setGroupInterfaces},
	}, within(inGlobal, []keyword{
		{name: "vrrp_garp_interval", args: 1, handle: setGlobalInterval},
		{name: "vrrp_gna_interval", args: 1, handle: setGlobalInterval},
	}))
	for _, k := range garpSettings() {
		words = append(words,
			keyword{name: k.name, in: inInstance, args: 1, handle: setGARP(k)},
			keyword{name: "vrrp_" + k.name, in: inGlobal, args: 1, handle: setGlobalGARP(k)})
	}
	return words
}

// scriptKeywords are those of vrrp_script, vrrp_track_process and track_file.
func scriptKeywords() []keyword {
	return within(inScript, []keyword{
		{name: "script", args: 1, handle: setScriptCommand},
		{name: "interval", args: 1, handle: setScriptInterval},
		{name: "timeout", args: 1, handle: setScriptTimeout},
		{name: "weight", args: 1, handle: setScriptWeight},
		{name: "rise", args: 1, handle: setRise},
		{name: "fall", args: 1, handle: setFall},
		{name: "user", args: 1, handle: setScriptUser},
		{name: "init_fail", handle: setInitFail},
	}, within(inProcess, []keyword{
		{name: "process", args: 1, handle: setProcessName},
		{name: "param_match", handle: setParamMatch},
		{name: "weight", args: 1, soft: true, handle: setProcessWeight},
		{name: "quorum", args: 1, handle: setQuorum},
		{name: "quorum_max", args: 1, handle: setQuorumMax},
		{name: "delay", args: 1, handle: setProcessDelay},
		{name: "terminate_delay", args: 1, handle: setProcessDelay},
		{name: "fork_delay", args: 1, handle: setProcessDelay},
		{name: "full_command", handle: setFullCommand},
	}), within(inFile, []keyword{
		{name: "file", args: 1, soft: true, handle: setFilePath},
		{name: "weight", args: 1, soft: true, handle: setFileWeight},
		{name: "init_file", handle: setInitFile},
	}))
}

// groupKeywords are those of vrrp_sync_group and track_group.
func groupKeywords() []keyword {
	return within(inSyncGroup, []keyword{
		{name: "group", shape: items, handle: setMembers},
		{name: "track_interface", shape: items, handle: groupTrackBy(trackedInterfaces, func(g *SyncGroup) *[]Track { return &g.Interfaces })},
		{name: "track_script", shape: items, handle: groupTrackBy(trackedScripts, func(g *SyncGroup) *[]Track { return &g.Scripts })},
		{name: "track_process", shape: items, handle: groupTrackBy(trackedProcesses, func(g *SyncGroup) *[]Track { return &g.Processes })},
		{name: "track_file", shape: items, handle: groupTrackBy(trackedFiles, func(g *SyncGroup) *[]Track { return &g.Files })},
		{name: "track_bfd", shape: items, reason: "a BFD session that goes down does not put the group into fault"},
		{name: "notify", args: 1, handle: groupNotifyBy(func(n *Notify) **Command { return &n.Any })},
		{name: "notify_master", args: 1, handle: groupNotifyBy(func(n *Notify) **Command { return &n.Active })},
		{name: "notify_backup", args: 1, handle: groupNotifyBy(func(n *Notify) **Command { return &n.Backup })},
		{name: "notify_fault", args: 1, handle: groupNotifyBy(func(n *Notify) **Command { return &n.Fault })},
		{name: "notify_stop", args: 1, handle: groupNotifyBy(func(n *Notify) **Command { return &n.Stop })},
		{name: "smtp_alert", handle: setGroupEmail},
		{name: "notify_priority_changes", handle: setGroupPriorities},
		{name: "sync_group_tracking_weight", handle: setTrackingWeight},
		{name: "global_tracking", handle: setTrackingWeight},
	}, within(inTrackGroup, []keyword{
		{name: "group", shape: items, handle: setTrackMembers},
	}))
}

// within puts keywords into a block, and others behind them.
func within(in block, words []keyword, others ...[]keyword) []keyword {
	for i := range words {
		words[i].in = in
	}
	for _, o := range others {
		words = append(words, o...)
	}
	return words
}

// reported are keywords that are not handled for one reason.
func reported(reason string, names ...string) (words []keyword) {
	for _, n := range names {
		words = append(words, keyword{name: n, reason: reason})
	}
	return words
}
