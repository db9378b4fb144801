package keepalived

import "strings"

// otherKeywords are the blocks of what Holdfast does not do. They are read over, brace
// by brace; Keepalived can go on doing their part with -C.
func otherKeywords() []keyword {
	lvs := "Holdfast does no LVS; run Keepalived with -C (--check) beside it for that"
	return []keyword{
		{name: "virtual_server", shape: opaque, body: inServer, reason: lvs},
		{name: "virtual_server_group", shape: opaque, body: inServerGroup, reason: lvs},
		{name: "SSL", shape: opaque, body: inSSL, reason: lvs},
		{name: "bfd_instance", shape: opaque, body: inBFD, reason: "Holdfast does no BFD; run a BFD daemon, and track it with a vrrp_script"},
	}
}

// serverKeywords are known so that one of them in a wrong place can be told from an
// unknown word.
func serverKeywords() []keyword {
	lvs, bfd := "part of LVS", "part of BFD"
	fields := func(s string) []string { return strings.Fields(s) }
	return within(inServer, reported(lvs, fields(`real_server delay_loop lb_algo lvs_sched lb_kind lvs_method protocol persistence_timeout
		persistence_engine persistence_granularity ip_family ha_suspend alpha omega quorum quorum_up quorum_down hysteresis retry
		delay_before_retry warmup connect_timeout sorry_server sorry_server_inhibit sorry_server_lvs_method virtualhost ops hashed
		sh-port sh-fallback mh-port mh-fallback flag-1 flag-2 flag-3 snmp_name inhibit_on_failure smtp_alert weight`)...),
		within(inRealServer, reported(lvs, fields(`uthreshold lthreshold notify_up notify_down
			HTTP_GET SSL_GET TCP_CHECK SMTP_CHECK DNS_CHECK MISC_CHECK UDP_CHECK PING_CHECK FILE_CHECK BFD_CHECK`)...)),
		within(inServerCheck, reported(lvs, fields(`connect_ip connect_port bindto bind_port bind_if fwmark url path status_code digest
			regex regex_no_match regex_options regex_stack regex_min_offset regex_max_offset tls_compliant http_protocol enable_sni sni_name
			fast_recovery nb_get_retry helo_name host type name misc_path misc_timeout misc_dynamic payload require_reply min_reply_length
			max_reply_length log_all_failures`)...)),
		within(inSSL, reported(lvs, fields("password ca certificate key")...)),
		within(inBFD, reported(bfd, fields(`neighbor_ip neighbour_ip source_ip min_rx min_tx idle_tx multiplier passive ttl hoplimit max_hops
			multihop weight vrrp checker`)...)))
}
