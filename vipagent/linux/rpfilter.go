package linux

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const ipv4Conf = "/proc/sys/net/ipv4/conf/"

// lowerRPFilter makes the rp_filter of one interface count, which is 0. The kernel takes
// the larger of it and that of "all"; if that is not 0, it goes to 0 after each other
// interface, and "default" for those to come, have been given at least its value, so that
// all but one are filtered as before.
func (k *Kernel) lowerRPFilter(except int) error {
	all, err := readRPFilter("all")
	if err != nil || all == 0 {
		return err
	}
	k.logger.Info("setting net.ipv4.conf.all.rp_filter to 0, and that of each interface to what it was", "value", all)
	if err := raiseRPFilter("default", all); err != nil {
		return err
	}
	names, err := k.names()
	if err != nil {
		return err
	}
	for index, name := range names {
		if index == except {
			continue
		}
		if err := raiseRPFilter(name, all); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return writeRPFilter("all", 0)
}

func raiseRPFilter(name string, least int) error {
	v, err := readRPFilter(name)
	if err != nil || v >= least {
		return err
	}
	return writeRPFilter(name, least)
}

func readRPFilter(name string) (int, error) {
	b, err := os.ReadFile(ipv4Conf + name + "/rp_filter")
	if err != nil {
		return 0, err
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read rp_filter of %s: %w", name, err)
	}
	return v, nil
}

func writeRPFilter(name string, v int) error {
	return os.WriteFile(ipv4Conf+name+"/rp_filter", []byte(strconv.Itoa(v)), 0o644)
}
