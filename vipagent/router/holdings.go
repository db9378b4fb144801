package router

import (
	"errors"
	"fmt"
	"slices"

	"holdfast/vipagent/keepalived"
	"holdfast/vipagent/vrrp"
)

// holdings are addresses, routes and rules, wanted or up.
type holdings struct {
	addresses []keepalived.Address
	routes    []keepalived.Route
	rules     []keepalived.Rule
}

// addressKey tells addresses apart: two with the same key are the same thing in the
// kernel.
func addressKey(a keepalived.Address) string {
	return fmt.Sprint(a.Prefix, a.Interface, a.Label, a.Scope, a.Broadcast, a.Peer, a.Options)
}

func routeKey(r keepalived.Route) string { return fmt.Sprint("route", r.Words) }
func ruleKey(r keepalived.Rule) string   { return fmt.Sprint("rule", r.Words) }

// minus returns what of a is not in b.
func minus[T any](a, b []T, key func(T) string) []T {
	known := make(map[string]bool, len(b))
	for _, x := range b {
		known[key(x)] = true
	}
	var out []T
	for _, x := range a {
		if !known[key(x)] {
			out = append(out, x)
		}
	}
	return out
}

// minus returns what of h is not in other.
func (h holdings) minus(other holdings) holdings {
	return holdings{
		minus(h.addresses, other.addresses, addressKey),
		minus(h.routes, other.routes, routeKey),
		minus(h.rules, other.rules, ruleKey),
	}
}

// lower takes down what the instance has and should not have: rules, routes, then
// addresses. What another instance wants stays for it.
func (in *instance) lower() {
	r := in.router
	surplus := in.has.minus(in.wanted())
	in.has = in.has.minus(surplus)
	if r.stopping && r.host.Keep {
		return
	}
	surplus.addresses = keepOthers(in, surplus.addresses, addressKey)
	surplus.routes = keepOthers(in, surplus.routes, routeKey)
	surplus.rules = keepOthers(in, surplus.rules, ruleKey)
	if err := r.remove(surplus); err != nil {
		r.log.Error("cannot take down", "instance", in.conf.Name, "error", err)
	}
}

// keepOthers leaves out what another instance wants, too.
func keepOthers[T any](in *instance, list []T, key func(T) string) []T {
	return slices.DeleteFunc(list, func(x T) bool {
		return slices.ContainsFunc(in.router.current.owners[key(x)], func(other *instance) bool {
			return other != in && other.machine.State() == vrrp.Active
		})
	})
}

// findOwners notes which instances may want what.
func (s *setup) findOwners() {
	s.owners = make(map[string][]*instance)
	for _, in := range s.instances {
		for _, a := range in.all().addresses {
			s.owners[addressKey(a)] = append(s.owners[addressKey(a)], in)
		}
		for _, x := range in.conf.Routes {
			s.owners[routeKey(x)] = append(s.owners[routeKey(x)], in)
		}
		for _, x := range in.conf.Rules {
			s.owners[ruleKey(x)] = append(s.owners[ruleKey(x)], in)
		}
	}
}

// raise brings up what the instance should have and has not: addresses, routes, then
// rules. It returns the addresses that are new. What fails is tried again later.
func (in *instance) raise() []keepalived.Address {
	r := in.router
	missing := in.wanted().minus(in.has)
	got, err := r.add(missing)
	in.has.addresses = append(in.has.addresses, got.addresses...)
	in.has.routes = append(in.has.routes, got.routes...)
	in.has.rules = append(in.has.rules, got.rules...)
	failure := ""
	if err != nil {
		failure = err.Error()
		r.repairSoon()
	}
	if failure != in.failure && failure != "" {
		r.log.Error("cannot bring up", "instance", in.conf.Name, "error", err)
	}
	in.failure = failure
	return got.addresses
}

// remove takes things down and goes on after errors.
func (r *Router) remove(h holdings) error {
	var errs []error
	for _, x := range slices.Backward(h.rules) {
		errs = append(errs, r.host.Routes.RemoveRule(x))
	}
	for _, x := range slices.Backward(h.routes) {
		errs = append(errs, r.host.Routes.RemoveRoute(x))
	}
	if len(h.addresses) > 0 {
		errs = append(errs, r.host.Addresses.Remove(h.addresses))
	}
	return errors.Join(errs...)
}

// add brings things up, goes on after errors, and returns what is up.
func (r *Router) add(h holdings) (got holdings, err error) {
	var errs []error
	if len(h.addresses) > 0 {
		if err := r.host.Addresses.Add(h.addresses); err == nil {
			got.addresses = h.addresses
		} else {
			for _, a := range h.addresses {
				if err := r.host.Addresses.Add([]keepalived.Address{a}); err != nil {
					errs = append(errs, fmt.Errorf("add %s on %s: %w", a.Prefix, a.Interface, err))
				} else {
					got.addresses = append(got.addresses, a)
				}
			}
		}
	}
	for _, x := range h.routes {
		if err := r.host.Routes.AddRoute(x); err != nil {
			errs = append(errs, err)
		} else {
			got.routes = append(got.routes, x)
		}
	}
	for _, x := range h.rules {
		if err := r.host.Routes.AddRule(x); err != nil {
			errs = append(errs, err)
		} else {
			got.rules = append(got.rules, x)
		}
	}
	return got, errors.Join(errs...)
}
