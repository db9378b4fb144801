package keepalived

import (
	"os"
	"strings"
	"testing"
)

// TestDocument: docs/keepalived.md has the table of unhandled keywords as it is.
func TestDocument(t *testing.T) {
	const page, begin, end = "../../docs/keepalived.md", "<!-- unhandled: begin -->\n", "<!-- unhandled: end -->\n"
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(content), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no table of unhandled keywords", page)
	}
	if table == UnhandledTable() {
		return
	}
	if !*rewrite {
		t.Fatalf("the table of unhandled keywords in %s is not that of the parser: go test -rewrite", page)
	}
	if err := os.WriteFile(page, []byte(before+begin+UnhandledTable()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestKeywords: each is handled or says why not, and is there once in its block.
func TestKeywords(t *testing.T) {
	seen := make(map[string]bool)
	for _, k := range newLanguage().words {
		at := k.in.String() + "/" + k.name
		if seen[at] {
			t.Errorf("%s is there twice", at)
		}
		seen[at] = true
		if k.handle == nil && k.reason == "" && k.shape != nested {
			t.Errorf("%s: neither handled nor explained", at)
		}
	}
	known := newLanguage()
	for name := range strings.FieldsSeq(`active_key anti_replay auth_hmac debug delay dont_track_primary down_timer_adverts fork_delay full_command
		garp_extra_if garp_group garp_interval global_tracking gna_interval init_fail interfaces key linkbeat_interfaces mode native_ipv6 quorum_max
		static_rules terminate_delay time_window track_group vrf child_wait_time config_save_dir data_use_instance iproute_etc_dir iproute_usr_dir
		namespace_with_ipsets net_namespace process_monitor_rcv_bufs process_names random_seed reload_time_file tmp_config_directory umask use_pid_dir
		vmac_prefix vrrp_cpu_affinity vrrp_ipsets vrrp_rlimit_rtime vrrp_rx_bufs_policy virtual_server real_server quorum_up ha_suspend lvs_sync_daemon
		persistence_engine uthreshold bfd_instance neighbour_ip max_hops checker snmp_socket enable_traps dbus_no_interface_name enable_dbus
		nftables_ipvs_start_fwmark rs_init_notifies checker_rlimit_rtime snmp_rs_stats_update_interval vrrp_vmac_garp_intvl v3_checksum_as_v2`) {
		if len(known.elsewhere(name)) == 0 {
			t.Errorf("%s is not known", name)
		}
	}
}

func TestNearest(t *testing.T) {
	l := newLanguage()
	tests := []struct {
		in         block
		word, want string
	}{
		{inScript, "fail", "fall"},
		{inGlobal, "vrrp_grap_interval", "vrrp_garp_interval"},
		{inInstance, "virtual_adress", "virtual_ipaddress"},
		{inInstance, "prioritiy", "priority"},
		{inAuth, "auth_tpye", "auth_type"},
		{topLevel, "vrrp_instnace", "vrrp_instance"},
		{inScript, "zzz", ""},
	}
	for _, tt := range tests {
		if got := l.nearest(tt.in, tt.word); got != tt.want {
			t.Errorf("%s in %s: got %q, want %q", tt.word, tt.in, got, tt.want)
		}
	}
}
