package lab

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestKeepalivedConfig(t *testing.T) {
	config := KeepalivedConfig{
		Version: 3, Interval: 100 * time.Millisecond,
		Addresses: []netip.Addr{netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("fd77::c:1")},
	}
	want := `global_defs {
    router_id host2
    vrrp_version 3
    script_user root
    enable_script_security
}
vrrp_script maintenance {
    script "/usr/bin/test ! -e /disk/maintenance"
    interval 1
    fall 1
    rise 1
}
vrrp_instance web {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority 100
    advert_int 0.1
    virtual_ipaddress {
        10.77.1.1/32
    }
    virtual_ipaddress_excluded {
        fd77::c:1/128
    }
    track_script {
        maintenance
    }
}
`
	if diff := cmp.Diff(want, config.text("host2", priority(1), "/disk/maintenance")); diff != "" {
		t.Error(diff)
	}
	config.Version, config.Interval = 2, time.Second
	text := config.text("host1", priority(0), "")
	for _, line := range []string{"vrrp_version 2\n", "priority 110\n", "advert_int 1\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	if strings.Contains(text, "script maintenance") || strings.Contains(text, "track_script") {
		t.Errorf("a check that was not asked for:\n%s", text)
	}
}
