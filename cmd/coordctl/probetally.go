package main

import "time"

// tally counts the answers of one address. It keeps no more questions than may
// still be answered, so a probe may go on for days.
type tally struct {
	open []question // asked and not judged yet, oldest first
	next int        // number of the next question

	asked, lost, gaps int // of the questions that are judged
	total, longest    time.Duration
	since             time.Time     // of the gap that the judged questions end in; zero = none
	judged            time.Time     // the last question that is
	heard             time.Time     // the latest question that was answered
	last              time.Time     // the last question
	pause             time.Duration // longest time between two questions
}

// question is one that may still be answered.
type question struct {
	at       time.Time
	answered bool
}

// ask counts a question and returns its number.
func (t *tally) ask(at time.Time) int {
	t.settle(at.Add(-probePatience))
	if !t.last.IsZero() {
		t.pause = max(t.pause, at.Sub(t.last))
	}
	t.last = at
	t.open = append(t.open, question{at: at})
	t.next++
	return t.next - 1
}

// answer counts the answer to a question, unless it comes too late.
func (t *tally) answer(number int, at time.Time) {
	i := number - (t.next - len(t.open))
	if i < 0 || i >= len(t.open) || at.Sub(t.open[i].at) >= probePatience {
		return
	}
	t.open[i].answered = true
	if t.open[i].at.After(t.heard) {
		t.heard = t.open[i].at
	}
}

// settle judges the questions that were asked until end.
func (t *tally) settle(end time.Time) {
	for len(t.open) > 0 && !t.open[0].at.After(end) {
		t.judge(t.open[0])
		t.open = t.open[1:]
	}
}

func (t *tally) judge(q question) {
	t.asked++
	t.judged = q.at
	if q.answered {
		t.close(q.at)
		return
	}
	t.lost++
	if t.since.IsZero() {
		t.since = q.at
	}
}

// close ends the gap, if there is one.
func (t *tally) close(at time.Time) {
	if t.since.IsZero() {
		return
	}
	gap := at.Sub(t.since)
	t.gaps++
	t.total += gap
	t.longest = max(t.longest, gap)
	t.since = time.Time{}
}

// finish judges what was asked until end; what came later is not counted. A gap
// that goes on lasts until one step after the last question.
func (t *tally) finish(end time.Time) {
	t.settle(end)
	t.close(t.judged.Add(probeEvery))
}

// maxSightings bounds what is kept of an address that moves all the time.
const maxSightings = 32

// sightings is who had an address, in order of time.
type sightings struct {
	list []neighbour
	more int // changes that are not in the list
	mac  string
}

// see notes a hardware address if another one was seen before.
func (s *sightings) see(mac string, at time.Duration) {
	if mac == s.mac {
		return
	}
	s.mac = mac
	if len(s.list) == maxSightings {
		s.more++
		return
	}
	s.list = append(s.list, neighbour{mac, ms(at)})
}
