package translate

import (
	"fmt"
	"testing"

	"holdfast/fsm"
	"holdfast/vipagent/health"
	"holdfast/vipagent/keepalived"
)

// FuzzTranslate holds for any two files: what is made of them is what the quorum and
// vipagent take.
func FuzzTranslate(f *testing.F) {
	web := instance("VI_1", 51, 150, vip("10.0.0.50/24", "2001:db8::50/64"), "nopreempt", password("secret12345"), peers("10.0.0.2"))
	f.Add(web, web)
	f.Add(group("G", "A", "B")+instance("A", 51, 150, vip("fe80::1/64"))+instance("B", 52, 255, vip("10.0.0.60")), web)
	f.Add("vrrp_script a {\n script \"killall -0 x\"\n weight 5\n}\nvrrp_track_process p {\n process /bin/x y\n}\ntrack_file f {\n file /run/f\n}\n"+
		instance("VI", 1, 1, vip("10.0.0.1/8"), "track_script {\n a\n }", "track_process {\n p\n }", "track_file {\n f\n }", "track_interface {\n eth1 weight -5\n }"), web)
	f.Fuzz(func(t *testing.T, a, b string) {
		var hosts []HostConfig
		for i, text := range []string{a, b} {
			host := fmt.Sprintf("lb%d", i+1)
			c, diagnostics := keepalived.Parse(files{host: text}, host, keepalived.Options{})
			if keepalived.Fatal(diagnostics) {
				return
			}
			hosts = append(hosts, HostConfig{host, host, c, diagnostics})
		}
		for _, d := range Compare(hosts) {
			if len(d.Sides) == 0 || d.Meaning == "" || d.Remedy == "" {
				t.Errorf("an empty difference: %+v", d)
			}
		}
		sets, _ := Sets(hosts)
		seen := make(map[string]bool)
		for _, s := range sets {
			if err := fsm.ValidateSet(s); err != nil || seen[s.Name] || !s.Paused || s.VRRP.Mode != fsm.VRRPOff {
				t.Errorf("set %+v: %v", s, err)
			}
			seen[s.Name] = true
		}
		for _, h := range Checks(hosts) {
			for _, p := range health.Validate(h.Checks) {
				t.Errorf("%s: %v", h.Host, p)
			}
		}
	})
}
