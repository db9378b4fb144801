// Package fault names the places between a check and the act that follows it. In
// a normal build [Point] is empty and costs nothing. In a build with the tag
// "faultpoints" it stops the process there, as a scheduler or an operator may do
// at any moment, so that a campaign can see that nothing depends on being quick.
package fault

// The places. Each is passed right before what it is named for.
const (
	Store     = "store"     // a proven deadline is stored in the kernel
	Guard     = "guard"     // the fence is put before addresses
	Add       = "add"       // the system call that adds addresses
	Open      = "open"      // the fence is opened
	Announce  = "announce"  // each frame of an announcement
	Advertise = "advertise" // each VRRP advertisement
	Refresh   = "refresh"   // the system call that gives a new lifetime
	Close     = "close"     // the fence is shut before addresses are taken down
	Remove    = "remove"    // the system call that takes addresses down
	Save      = "save"      // the session file is written
	Send      = "send"      // a release leaves for the quorum
)

// Names returns all places, in the order in which an address meets them.
func Names() []string {
	return []string{Store, Guard, Add, Open, Announce, Advertise, Refresh, Close, Remove, Save, Send}
}
