package router

import "testing"

// TestEffect is Keepalived's arithmetic of weights.
func TestEffect(t *testing.T) {
	for _, tt := range []struct {
		kind    string
		state   condition
		value   int
		weight  int
		reverse bool
		patient bool
		want    effect
	}{
		{kindScript, up, 0, 10, false, false, effect{weight: 10}},
		{kindScript, down, 0, 10, false, false, effect{}},
		{kindScript, up, 0, -10, false, false, effect{}},
		{kindScript, down, 0, -10, false, false, effect{weight: -10}},
		{kindScript, up, 0, 10, true, false, effect{weight: -10}},
		{kindScript, down, 0, -10, true, false, effect{weight: 10}},
		{kindScript, unknown, 0, 10, false, false, effect{}},
		{kindScript, up, 0, 0, false, false, effect{}},
		{kindScript, down, 0, 0, false, false, effect{fault: "script x is down"}},
		{kindScript, up, 0, 0, true, false, effect{fault: "script x is up"}},
		{kindScript, down, 0, 0, true, false, effect{}},
		{kindScript, unknown, 0, 0, false, false, effect{waiting: true}},
		{kindScript, unknown, 0, 0, false, true, effect{}},
		{kindFile, up, 7, 2, false, false, effect{weight: 14}},
		{kindFile, up, 7, 2, true, false, effect{weight: -14}},
		{kindFile, up, 127, 2, false, false, effect{weight: 253}},
		{kindFile, up, -127, 2, false, false, effect{fault: "file x says -127"}},
		{kindFile, up, 0, 0, false, false, effect{}},
		{kindFile, up, 1, 0, false, false, effect{fault: "file x says 1"}},
		{kindFile, up, 1, 0, true, false, effect{}},
		{kindFile, up, 0, 0, true, false, effect{fault: "file x says 0"}},
	} {
		d := dependency{on: &factor{factorKey: factorKey{tt.kind, "x"}, state: tt.state, value: tt.value, patient: tt.patient}, weight: tt.weight, reverse: tt.reverse}
		if got := d.effect(); got != tt.want {
			t.Errorf("%s %s, value %d, weight %d, reverse %t: %+v, want %+v", tt.kind, tt.state, tt.value, tt.weight, tt.reverse, got, tt.want)
		}
	}
}
