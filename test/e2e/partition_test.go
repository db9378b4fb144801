package e2e

import (
	"testing"

	"holdfast/test/lab/scenario"
)

// The holder is alone on its side: the majority side takes over, and after the
// heal both sides get every answer from one host.
func TestPartitionAndHeal(t *testing.T) {
	s, ctx := stage(t)
	runOn(ctx, t, s, scenario.Partition())
	runOn(ctx, t, s, scenario.Heal())
}

// What the holder sends is lost: it hears everybody, and nobody hears it.
func TestOutgoingPacketsLost(t *testing.T) { run(t, scenario.CutOut()) }

// What is sent to the holder is lost: everybody hears it, and it hears nobody.
func TestIncomingPacketsLost(t *testing.T) { run(t, scenario.CutIn()) }
