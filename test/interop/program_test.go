package interop

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"holdfast/test/lab"
)

// program is a VRRP speaker.
type program struct {
	name string
	kind func() (lab.RouterKind, error)
	// config returns a host's configuration in the program's language.
	config func(setting, []*lab.Host, int) string
	// complaint finds a line of its log in which it says that an advertisement of
	// somebody else is not right; nil for the program under test.
	complaint *regexp.Regexp
	// tables is set when its hosts have an address in their table if, and only if,
	// they are Active.
	tables bool
}

func keepalived() program {
	return program{
		name: "keepalived",
		kind: func() (lab.RouterKind, error) {
			path, err := lab.FindKeepalived()
			return lab.KeepalivedRouter(path), err
		},
		config:    setting.keepalived,
		complaint: keepalivedComplaint,
		tables:    true,
	}
}

func holdfast() program {
	return program{
		name: "holdfast",
		kind: func() (lab.RouterKind, error) {
			return lab.HoldfastRouter(filepath.Join(os.Getenv(lab.BinVariable), "vipagent")), nil
		},
		config: setting.keepalived,
		tables: true,
	}
}

func frr() program {
	return program{
		name: "frr",
		kind: func() (lab.RouterKind, error) {
			dir, err := findFRR()
			return lab.FRRRouter(dir), err
		},
		config:    setting.vrrpd,
		complaint: frrComplaint,
	}
}

// keepalivedComplaint are the forms of what Keepalived, 2.2.7 and 2.4.3, says of
// advertisements that it refuses or finds strange, and any line with a word that
// belongs into none. "received lower priority advert - discarding" is not among
// them: that is the protocol at work.
var keepalivedComplaint = regexp.MustCompile(`(?i)` + strings.Join([]string{
	`packet .*too (short|long)`, `IPSEC`, `AH header`, `TTL/HL`, `wrong (VRRP )?version`, `auth type`, `received a \d+ auth`, `invalid passwd`,
	`interval mismatch`, `invalid packet type`, `unexpected ip number count`, `ip_tot_len`, `checksum`,
	`expected (un|mult)icast packet`, `dropping packet`, `expected \d+ VIPs`, `not present in MASTER advert`, `not a unicast peer`,
	`truncated`, `unknown VRID`, `discarding (un|mult)icast`, `with our IP address`, `CONFIGURATION ERROR`, `still advertising as address owner`,
	`authentication`, `\b(bad|invalid|mismatch|malformed|wrong|unexpected|error|bug)\b`,
}, "|"))

// frrComplaint is the same for FRR's vrrpd 8.4.
var frrComplaint = regexp.MustCompile(`(?i)Datagram invalid|Datagram has|this is a bug|\b(bad|malformed|mismatch)\b`)

// complaints returns the lines of a log in which the program complains.
func (p program) complaints(log string) []string {
	if p.complaint == nil {
		return nil
	}
	var found []string
	for line := range strings.Lines(log) {
		if p.complaint.MatchString(line) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func TestComplaints(t *testing.T) {
	for _, line := range []string{
		"(vi_51) received an invalid passwd!",
		"(vi_51) Invalid VRRPv3 checksum",
		"(vi_51) ip address associated with VRID 51 not present in MASTER advert: 10.77.1.1",
		"(vi_51) advertisement interval mismatch mine=1 sec rcv'd=2 sec",
		"(vi_51) Expected multicast packet but received unicast packet",
		"(vi_51) unicast source address 10.77.0.12 not a unicast peer",
		"(vi_51) expected 1 VIPs but received 2",
		"(vi_51) wrong version. Received 2 and expect 3",
		"(vi_51) invalid TTL/HL. Received 64 and expect 255",
		"(vi_51) vrrp packet too long, length 32 and expect 20",
		"Unknown VRID(52) received on interface(eth0). ignoring...",
	} {
		if len(keepalived().complaints("Wed Nov 25 06:00:00 2026: "+line+"\n")) != 1 {
			t.Errorf("no complaint: %s", line)
		}
	}
	quiet := `Wed Nov 25 06:00:00 2026: (vi_51) received lower priority (100) advert from 10.77.0.12 - discarding
Wed Nov 25 06:00:00 2026: (vi_51) Entering MASTER STATE
Wed Nov 25 06:00:00 2026: (vi_51) Master received advert from 10.77.0.11 with higher priority 150, ours 100
Wed Nov 25 06:00:00 2026: (vi_51) Backup received priority 0 advertisement
Wed Nov 25 06:00:00 2026: (vi_51) Received advert from 10.77.0.12 with lower priority 100, ours 150, forcing new election
`
	if found := keepalived().complaints(quiet); len(found) > 0 {
		t.Errorf("complaints: %q", found)
	}
	if found := frr().complaints("VRRP: [CORE] [VRID 51] [IPv4] Datagram invalid: Bad checksum\n"); len(found) != 1 {
		t.Errorf("FRR's complaint: %q", found)
	}
}
