// Package keepalived reads keepalived.conf: the whole VRRP side of it becomes a
// [Config], and everything that is not understood, not handled or suspicious becomes
// a [Diagnostic] with its place. The package is pure: files come through an
// interface, and it asks nothing of the system.
package keepalived
