package e2e

import (
	"testing"

	"holdfast/test/lab/scenario"
)

// The fault campaign: each way of attacking a holder, once. What takes longer
// runs in `make campaign`.
func TestCampaign(t *testing.T) {
	for _, sc := range scenario.Campaign() {
		if sc.Long && !wholeCampaign() {
			continue
		}
		t.Run(sc.Name, func(t *testing.T) { run(t, sc) })
	}
}
