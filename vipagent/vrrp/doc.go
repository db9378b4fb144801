// Package vrrp is the Virtual Router Redundancy Protocol without a network: the
// codec of its advertisements and the state machine of one virtual router. It
// follows RFC 9568 (and RFC 5798 before it) for version 3 and RFC 3768 for
// version 2, and what Keepalived really sends and accepts where that differs. The
// package is pure: no I/O, no goroutine, no clock; time is an argument.
package vrrp
