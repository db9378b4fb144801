// Package daemon is what every Holdfast daemon shares around its work: the
// strict configuration file and the flags that override it, logging, signals,
// the task group, and the talk with systemd.
//
// A daemon's main is one call:
//
//	func main() { os.Exit(daemon.Main(daemon.CoordinatorFile(), os.Args[1:], run)) }
//
// [Main] owns the exit code; nothing else in the process exits.
package daemon
