package router

import "holdfast/vipagent/vrrp"

// diary is how often each odd thing has been noted, so that a flood does not fill the
// log.
type diary map[string]uint64

// worth counts something and tells whether it is worth a line this time: the 1st, 2nd,
// 4th, 8th, ... time.
func (d diary) worth(word string) (times uint64, yes bool) {
	d[word]++
	n := d[word]
	return n, n&(n-1) == 0
}

// note logs what the state machine noted.
func (in *instance) note(n vrrp.Note) {
	if times, yes := in.diary.worth(string(n.Kind)); yes {
		in.router.log.Info("noted", "instance", in.conf.Name, "kind", string(n.Kind), "what", n.Text, "times", times)
	}
}
