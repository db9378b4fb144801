package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// The steps that cells are made of. Hosts are 0, the one of higher priority, and
// 1. Each says who has the addresses after it.

// starts starts the router of a host.
func starts(host, holder int, within time.Duration) step {
	return step{
		name: fmt.Sprintf("start of host %d", host), holder: holder, within: within,
		do: func(ctx context.Context, s *site) error {
			if err := s.start(host); err != nil || within > 0 {
				return err
			}
			return pause(ctx, startUp) // nothing changes that would show when it listens
		},
	}
}

// startUp is how long a router that starts as Backup may take until it listens: what
// it waits for counts from then on.
const startUp = 700 * time.Millisecond

// startsBoth starts the router of host 0 and, once it is Active, that of host 1.
// Two that become Active in the same millisecond settle it at once, but the loser's
// announcement may be the last one: then a neighbour believes it for as long as it
// takes no other (ARP's locktime, a second), and the winner has said all it says.
func startsBoth(holder int, within time.Duration) step {
	return step{
		name: "start of both", holder: holder, within: within,
		do: func(ctx context.Context, s *site) error {
			if err := s.start(0); err != nil {
				return err
			}
			return errors.Join(awaitSettled(ctx, s, 0, within), s.start(1))
		},
	}
}

// stops ends the router of a host as a service manager would: an Active one says
// farewell, and its peer takes over after its Skew_Time.
func stops(host, holder int, dark time.Duration) step {
	return step{
		name: fmt.Sprintf("stop of host %d", host), holder: holder, within: dark, dark: dark,
		do: func(ctx context.Context, s *site) error { return s.stop(ctx, host) },
	}
}

// restarts stops the router of a host and starts it again.
func restarts(host, holder int, within time.Duration) step {
	return step{
		name: fmt.Sprintf("restart of host %d", host), holder: holder, within: within,
		do: func(ctx context.Context, s *site) error { return errors.Join(s.stop(ctx, host), s.start(host)) },
	}
}

// powerOff switches a host off: its peer takes over after its
// Active_Down_Interval.
func powerOff(host, holder int, dark time.Duration) step {
	return step{
		name: fmt.Sprintf("power cut of host %d", host), holder: holder, within: dark, dark: dark,
		do: func(_ context.Context, s *site) error { return s.off(host) },
	}
}

// powerOn switches a host on and starts its router.
func powerOn(host, holder int, within time.Duration) step {
	return step{
		name: fmt.Sprintf("power of host %d is back", host), holder: holder, within: within,
		do: func(_ context.Context, s *site) error { return errors.Join(s.host(host).PowerOn(), s.start(host)) },
	}
}

// maintenance is the file whose presence fails the tracked script.
const maintenance = "maintenance"

// scriptFails makes the tracked script of a host fail.
func scriptFails(host, holder int, within time.Duration) step {
	return step{
		name: fmt.Sprintf("script of host %d fails", host), holder: holder, within: within,
		do: func(_ context.Context, s *site) error {
			return os.WriteFile(filepath.Join(s.host(host).Disk, maintenance), nil, 0o644)
		},
	}
}

// scriptRecovers ends that.
func scriptRecovers(host, holder int, within time.Duration) step {
	return step{
		name: fmt.Sprintf("script of host %d is well", host), holder: holder, within: within,
		do: func(_ context.Context, s *site) error {
			return os.Remove(filepath.Join(s.host(host).Disk, maintenance))
		},
	}
}

// partition cuts the hosts off from each other: both are Active.
func partition(within time.Duration) step {
	return step{
		name: "partition", holder: both, within: within,
		do: func(_ context.Context, s *site) error { return s.network.Partition() },
	}
}

// heals ends it: the first packets that are heard settle who has the addresses.
func heals(holder int, within time.Duration) step {
	return step{
		name: "end of the partition", holder: holder, within: within,
		do: func(_ context.Context, s *site) error { return s.network.Heal() },
	}
}

// reloads gives both hosts another list of addresses, one after the other.
func reloads(first, second, holder int, vips ...string) step {
	return step{
		name: fmt.Sprintf("reload of host %d, then of host %d", first, second), holder: holder, noisy: true,
		do: func(_ context.Context, s *site) error {
			s.list(vips)
			return errors.Join(s.reload(first), s.reload(second))
		},
	}
}

// reloadsOne gives one host another list of addresses, and looks at what comes of
// it after a while.
func reloadsOne(host, holder int, after time.Duration, vips ...string) step {
	return step{
		name: fmt.Sprintf("reload of host %d", host), holder: holder,
		do: func(ctx context.Context, s *site) error {
			s.list(vips)
			return errors.Join(s.reload(host), pause(ctx, after))
		},
	}
}

// list is another list of addresses for the first instance, in the settings and
// for the witnesses. The routers have not heard of it.
func (s *site) list(vips []string) {
	instance := &s.setting.instances[0]
	before := instance.addresses()
	s.lists = append(s.lists, before)
	instance.vips = vips
	s.gone = slices.DeleteFunc(append(s.gone, before...), func(a netip.Addr) bool { return slices.Contains(instance.addresses(), a) })
	s.recorder.Probe(s.setting.addresses()...)
}

func (s *site) reload(i int) error { return s.routers[i].Reload(s.config(i)) }

// exchange is the life of a pair: the lower one alone, the higher one takes over,
// leaves with a farewell, comes back, and loses its power.
func exchange(s setting) []step {
	return append(farewell(s), starts(0, 0, s.down(0)), powerOff(0, 1, s.down(1)))
}

// farewell is the first half of exchange.
func farewell(s setting) []step {
	return []step{starts(1, 1, s.down(1)), starts(0, 0, s.down(0)), stops(0, 1, s.skew(1))}
}
