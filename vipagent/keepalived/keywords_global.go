package keepalived

// globalKeywords are those of global_defs that are handled.
func globalKeywords() []keyword {
	return within(inGlobal, []keyword{
		{name: "router_id", args: 1, soft: true, handle: setRouterID},
		{name: "vrrp_version", args: 1, handle: setGlobalVersion},
		{name: "vrrp_mcast_group4", args: 1, handle: setGroupAddress},
		{name: "vrrp_mcast_group6", args: 1, handle: setGroupAddress},
		{name: "script_user", args: 1, soft: true, handle: setScriptUserDefault},
		{name: "enable_script_security", handle: globalSwitch(func(g *Global) *bool { return &g.ScriptSecurity })},
		{name: "set_supplementary_groups", handle: globalSwitch(func(g *Global) *bool { return &g.SupplementaryGroups })},
		{name: "notify_fifo", args: 1, soft: true, handle: setFIFO},
		{name: "notify_fifo_script", args: 1, soft: true, handle: setFIFOScript},
		{name: "vrrp_notify_fifo", args: 1, soft: true, handle: setFIFO},
		{name: "vrrp_notify_fifo_script", args: 1, soft: true, handle: setFIFOScript},
		{name: "vrrp_notify_priority_changes", handle: globalOnOff(func(g *Global) *bool { return &g.NotifyPriorities })},
		{name: "fifo_write_vrrp_states_on_reload", handle: globalSwitch(func(g *Global) *bool { return &g.FIFOStatesOnReload })},
		{name: "startup_script", args: 1, soft: true, handle: setStartupScript},
		{name: "startup_script_timeout", args: 1, soft: true, handle: setStartupTimeout},
		{name: "shutdown_script", args: 1, soft: true, handle: setShutdownScript},
		{name: "shutdown_script_timeout", args: 1, soft: true, handle: setShutdownTimeout},
		{name: "vrrp_startup_delay", args: 1, handle: setStartupDelay},
		{name: "vrrp_delay_after_boot", args: 1, handle: setDelayAfterBoot},
		{name: "dynamic_interfaces", handle: setDynamicInterfaces},
		{name: "default_interface", args: 1, soft: true, handle: setDefaultInterface},
		{name: "vrrp_skip_check_adv_addr", handle: globalOnOff(func(g *Global) *bool { return &g.SkipCheckAddresses })},
		{name: "vrrp_strict", handle: globalSwitch(func(g *Global) *bool { return &g.Strict })},
		{name: "vrrp_check_unicast_src", handle: globalSetting},
		{name: "vrrp_lower_prio_no_advert", handle: globalSetting},
		{name: "vrrp_higher_prio_send_advert", handle: globalSetting},
		{name: "vrrp_owner_ignore_adverts", handle: globalSetting},
		{name: "v3_checksum_as_v2", handle: globalSetting},
		{name: "vrrp_down_timer_adverts", args: 1, handle: setGlobalDownAdverts},
		{name: "vrrp_min_garp", handle: setMinGARP},
		{name: "notification_email", shape: items, handle: setEmailTo},
		{name: "notification_email_from", args: 1, soft: true, handle: setEmailFrom},
		{name: "smtp_server", args: 1, handle: setEmailServer},
		{name: "smtp_helo_name", handle: setEmailHELO},
		{name: "smtp_connect_timeout", args: 1, handle: setEmailTimeout},
		{name: "smtp_alert", handle: globalOnOff(func(g *Global) *bool { return &g.Email.Alert })},
		{name: "smtp_alert_vrrp", handle: setEmailAlertVRRP},
		{name: "no_email_faults", handle: globalSwitch(func(g *Global) *bool { return &g.Email.NoFaults })},
		{name: "vrrp_priority", args: 1, soft: true, handle: setNice},
		{name: "vrrp_rt_priority", args: 1, soft: true, handle: setRealtime},
		{name: "vrrp_no_swap", handle: globalSwitch(func(g *Global) *bool { return &g.NoSwap })},
		{name: "reload_check_config", handle: setReloadCheck},
		{name: "include_check", handle: ignoreStatement}, // the reader has seen it
		{name: "json_version", args: 1, handle: setJSONVersion},
		{name: "log_unknown_vrids", handle: globalSwitch(func(g *Global) *bool { return &g.LogUnknownVRIDs })},
		{name: "vrrp_iptables", handle: globalSwitch(func(g *Global) *bool { return &g.IPTables })},
		{name: "nftables", handle: globalSwitch(func(g *Global) *bool { return &g.NFTables })},
		{name: "state_dump_file", args: 1, handle: globalWord(func(g *Global) *string { return &g.StateDump })},
		{name: "stats_dump_file", args: 1, handle: globalWord(func(g *Global) *string { return &g.StatsDump })},
		{name: "json_dump_file", args: 1, handle: globalWord(func(g *Global) *string { return &g.JSONDump })},
	})
}

// globalUnhandled are those of global_defs of which nothing is done.
func globalUnhandled() []keyword {
	words := reported("Holdfast does no LVS",
		"lvs_timeouts", "lvs_flush", "lvs_flush_on_stop", "lvs_flush_onstop", "lvs_sync_daemon", "lvs_notify_fifo", "lvs_notify_fifo_script",
		"lvs_netlink_cmd_rcv_bufs", "lvs_netlink_cmd_rcv_bufs_force", "lvs_netlink_monitor_rcv_bufs", "lvs_netlink_monitor_rcv_bufs_force",
		"lvs_process_name", "nftables_ipvs", "nftables_ipvs_priority", "nftables_ipvs_start_fwmark",
		"rs_init_notifies", "no_checker_emails", "smtp_alert_checker", "checker_log_all_failures",
		"checker_priority", "checker_no_swap", "checker_rt_priority", "checker_cpu_affinity", "checker_rlimit_rttime", "checker_rlimit_rtime", "checker_process_name")
	words = append(words, reported("Holdfast does no BFD",
		"bfd_priority", "bfd_no_swap", "bfd_rt_priority", "bfd_cpu_affinity", "bfd_rlimit_rttime", "bfd_rlimit_rtime", "bfd_process_name")...)
	words = append(words, reported("there is no SNMP agent; watch the metrics of the agent",
		"snmp_socket", "enable_traps", "enable_snmp_vrrp", "enable_snmp_keepalived", "enable_snmp_rfc", "enable_snmp_rfcv2", "enable_snmp_rfcv3",
		"enable_snmp_checker", "snmp_vs_stats_update_interval", "snmp_rs_stats_update_interval")...)
	words = append(words, reported("there is no D-Bus service; ask the agent's own interface",
		"enable_dbus", "dbus_service_name", "dbus_no_interface_name")...)
	words = append(words, reported("the size of netlink's buffers is chosen by the agent",
		"vrrp_netlink_cmd_rcv_bufs", "vrrp_netlink_cmd_rcv_bufs_force", "vrrp_netlink_monitor_rcv_bufs", "vrrp_netlink_monitor_rcv_bufs_force",
		"process_monitor_rcv_bufs", "process_monitor_rcv_bufs_force", "vrrp_rx_bufs_policy", "vrrp_rx_bufs_multiplier")...)
	words = append(words, reported("the process's priority is not raised by itself when timers run late: the lease's fence covers that",
		"max_auto_priority", "min_auto_priority_delay")...)
	words = append(words, reported("CPUs and CPU time of the process are for the service manager to limit",
		"vrrp_cpu_affinity", "vrrp_rlimit_rttime", "vrrp_rlimit_rtime")...)
	words = append(words, reported("firewall rules are not made this way: only the table's owner differs, not what is refused",
		"vrrp_ipsets", "nftables_priority", "nftables_ifindex", "nftables_counters")...)
	words = append(words, reported("the interfaces of virtual MACs are named vrrp.VRID", "vmac_prefix", "vmac_addr_prefix")...)
	words = append(words, reported("reload the agent to read the configuration again",
		"reload_time_file", "reload_repeat", "reload_file")...)
	words = append(words, reported("a configuration that means something else each time cannot be compared", "random_seed")...)
	words = append(words,
		keyword{name: "vrrp_garp_extra_if", reason: "gratuitous ARPs leave on the interface of the address alone"},
		keyword{name: "vrrp_vmac_garp_intvl", reason: "gratuitous ARPs leave on the interface of the address alone", obsolete: "vrrp_garp_extra_if"},
		keyword{name: "process_names", reason: "there is one process, which keeps its name"},
		keyword{name: "process_name", args: 1, reason: "there is one process, which keeps its name"},
		keyword{name: "vrrp_process_name", args: 1, reason: "there is one process, which keeps its name"},
		keyword{name: "use_symlink_paths", reason: "programs are run by the path that is configured"},
		keyword{name: "disable_local_igmp", reason: "the kernel's reports of 224.0.0.0/24 stay as they are set"},
		keyword{name: "umask", reason: "the files that the agent makes have fixed modes"},
		keyword{name: "config_save_dir", reason: "no copy of the configuration is kept"},
		keyword{name: "tmp_config_directory", reason: "no copy of the configuration is kept"},
		keyword{name: "data_use_instance", reason: "the names of dump files do not contain the instance"},
		keyword{name: "iproute_usr_dir", reason: "names of tables and protocols are looked up where ip(8) does by default"},
		keyword{name: "iproute_etc_dir", reason: "names of tables and protocols are looked up where ip(8) does by default"})
	return within(inGlobal, words)
}
