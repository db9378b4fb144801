package router

import (
	"encoding/json"
	"io"
	"strings"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

// jsonInstance is one instance in the JSON dump, with Keepalived's names and order.
type jsonInstance struct {
	Data  jsonData  `json:"data"`
	Stats jsonStats `json:"stats"`
}

type jsonData struct {
	Name              string   `json:"iname"`
	DontTrackPrimary  int      `json:"dont_track_primary"`
	SkipCheckAddress  int      `json:"skip_check_adv_addr"`
	Strict            int      `json:"strict_mode"`
	VMAC              string   `json:"vmac_ifname"`
	Interface         string   `json:"ifp_ifname"`
	ActivePriority    uint8    `json:"master_priority"`
	LastTransition    float64  `json:"last_transition"`
	GARPDelay         float64  `json:"garp_delay"`
	GARPRefresh       int      `json:"garp_refresh"`
	GARPRepeat        int      `json:"garp_rep"`
	GARPRefreshRepeat int      `json:"garp_refresh_rep"`
	GARPLowerDelay    int      `json:"garp_lower_prio_delay"`
	GARPLowerRepeat   int      `json:"garp_lower_prio_rep"`
	LowerNoAdvert     int      `json:"lower_prio_no_advert"`
	HigherAdvert      int      `json:"higher_prio_send_advert"`
	VRID              uint8    `json:"vrid"`
	Priority          uint8    `json:"base_priority"`
	EffectivePriority uint8    `json:"effective_priority"`
	VIPSet            bool     `json:"vipset"`
	PromoteSecondary  bool     `json:"promote_secondaries"`
	Interval          float64  `json:"adver_int"`
	ActiveInterval    float64  `json:"master_adver_int"`
	Accept            int      `json:"accept"`
	NoPreempt         bool     `json:"nopreempt"`
	PreemptDelay      int      `json:"preempt_delay"`
	State             int      `json:"state"`
	WantState         int      `json:"wantstate"`
	Version           uint8    `json:"version"`
	Email             bool     `json:"smtp_alert"`
	NotifyDeleted     bool     `json:"notify_deleted"`
	ScriptBackup      string   `json:"script_backup,omitempty"`
	ScriptActive      string   `json:"script_master,omitempty"`
	ScriptFault       string   `json:"script_fault,omitempty"`
	ScriptStop        string   `json:"script_stop,omitempty"`
	ScriptDeleted     string   `json:"script_deleted,omitempty"`
	Script            string   `json:"script,omitempty"`
	ScriptLower       string   `json:"script_master_rx_lower_pri,omitempty"`
	VIPs              []string `json:"vips,omitempty"`
	Excluded          []string `json:"evips,omitempty"`
	Routes            []string `json:"vroutes,omitempty"`
	Rules             []string `json:"vrules,omitempty"`
	TrackInterfaces   []string `json:"track_ifp,omitempty"`
	TrackScripts      []string `json:"track_script,omitempty"`
	TrackProcesses    []string `json:"track_process,omitempty"`
	AuthType          int      `json:"auth_type"`
	AuthData          string   `json:"auth_data,omitempty"`
}

type jsonStats struct {
	Received       uint64 `json:"advert_rcvd"`
	Sent           uint64 `json:"advert_sent"`
	BecameActive   uint64 `json:"become_master"`
	ReleasedActive uint64 `json:"release_master"`
	Malformed      uint64 `json:"packet_len_err"`
	BadInterval    uint64 `json:"advert_interval_err"`
	BadTTL         uint64 `json:"ip_ttl_err"`
	BadType        uint64 `json:"invalid_type_rcvd"`
	BadAddresses   uint64 `json:"addr_list_err"`
	BadAuthType    uint64 `json:"invalid_authtype"`
	WrongAuthType  uint64 `json:"authtype_mismatch"`
	BadPassword    uint64 `json:"auth_failure"`
	StopReceived   uint64 `json:"pri_zero_rcvd"`
	StopSent       uint64 `json:"pri_zero_sent"`
}

// writeJSON writes the list of instances; json_version 2 puts it into an object.
func (r *Router) writeJSON(w io.Writer) {
	list := make([]jsonInstance, 0, len(r.current.instances))
	for _, in := range r.current.instances {
		list = append(list, in.json())
	}
	var all any = list
	if r.current.config.Global.JSONVersion == 2 {
		all = map[string]any{"vrrp": list}
	}
	_ = json.NewEncoder(w).Encode(all) // to memory: cannot fail
}

// stateNumber is Keepalived's number of a state.
func stateNumber(s vrrp.State) int {
	switch s {
	case vrrp.Backup:
		return 1
	case vrrp.Active:
		return 2
	case vrrp.Fault:
		return 3
	}
	return 0
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// quoted writes a command as Keepalived does.
func quoted(c *keepalived.Command) string {
	if c == nil {
		return ""
	}
	return "'" + strings.Join(c.Args, "' '") + "'"
}

func (in *instance) json() jsonInstance {
	c, n := in.conf, &in.stats
	s := in.machine.Status()
	state := stateNumber(s.State)
	d := jsonData{
		Name: c.Name, DontTrackPrimary: number(c.DontTrackPrimary), SkipCheckAddress: number(c.SkipCheckAddress),
		Strict: number(c.Strict), VMAC: in.vmacName(), Interface: in.device(), ActivePriority: s.ActivePriority,
		LastTransition: float64(in.since.UnixMicro()) / 1e6,
		GARPDelay:      c.GARP.Delay.Seconds(), GARPRefresh: int(c.GARP.Refresh.Seconds()), GARPRepeat: c.GARP.Repeat,
		GARPRefreshRepeat: c.GARP.RefreshRepeat, GARPLowerDelay: int(c.GARP.LowerDelay.Seconds()), GARPLowerRepeat: c.GARP.LowerRepeat,
		LowerNoAdvert: number(c.LowerNoAdvert), HigherAdvert: number(c.HigherAdvert),
		VRID: c.VRID, Priority: c.Priority, EffectivePriority: in.priority,
		VIPSet: len(in.has.addresses) > 0, PromoteSecondary: c.PromoteSecondary,
		Interval: c.Interval.Seconds(), ActiveInterval: s.ActiveInterval.Seconds(), Accept: number(c.Accept),
		NoPreempt: !c.Preempt, PreemptDelay: int(c.PreemptDelay.Seconds()),
		State: state, WantState: state, Version: c.Version, Email: c.Notify.Email, NotifyDeleted: c.Notify.Deleted != nil,
		ScriptBackup: quoted(c.Notify.Backup), ScriptActive: quoted(c.Notify.Active), ScriptFault: quoted(c.Notify.Fault),
		ScriptStop: quoted(c.Notify.Stop), ScriptDeleted: quoted(c.Notify.Deleted), Script: quoted(c.Notify.Any),
		ScriptLower: quoted(c.Notify.LowerPriority),
		VIPs:        in.addressLines(c.Addresses), Excluded: in.addressLines(c.Excluded),
		Routes: words(c.Routes, func(r keepalived.Route) []string { return r.Words }),
		Rules:  words(c.Rules, func(r keepalived.Rule) []string { return r.Words }),
	}
	if c.Password != nil {
		d.AuthType, d.AuthData = 1, "********"
	}
	in.jsonTracked(&d)
	return jsonInstance{d, jsonStats{
		n.Received, n.Sent, n.Became, n.Released,
		n.Counter("packet_len_err"), n.Counter("advert_interval_err"), n.Counter("ip_ttl_err"), n.Counter("invalid_type_rcvd"), n.Counter("addr_list_err"),
		n.Counter("invalid_authtype"), n.Counter("authtype_mismatch"), n.Counter("auth_failure"), n.StopReceived, n.StopSent,
	}}
}

func (in *instance) jsonTracked(d *jsonData) {
	for _, x := range in.depends {
		switch x.on.kind {
		case kindInterface:
			d.TrackInterfaces = append(d.TrackInterfaces, x.on.name)
		case kindScript:
			d.TrackScripts = append(d.TrackScripts, quoted(&in.router.current.checks[x.on.name].conf.Command))
		case kindProcess:
			d.TrackProcesses = append(d.TrackProcesses, x.on.name)
		}
	}
}
