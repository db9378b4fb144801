package service

import (
	"time"

	"holdfast/brokerd/pop"
	"holdfast/brokerd/record"
)

// AnyQueue stands for all queues that a topic has in a broker group.
const AnyQueue = -1

// Send is what a producer wants stored, all in one queue and in this order, or nothing.
type Send struct {
	Topic    string
	Queue    uint32
	Messages []record.Message // at least one
}

// Receive is what a consumer asks for.
type Receive struct {
	Group, Topic string
	Queue        int // or AnyQueue
	Filter       pop.Filter
	Max          int           // messages, at least 1
	Invisible    time.Duration // how long others do not see what is delivered
}

// Delivery is a message for a consumer.
type Delivery struct {
	Handle    pop.Handle // names queue and offset
	Message   *record.Message
	StoreTime int64  // ms since 1970 (UTC)
	Attempt   uint32 // 1 for the first time
}

// Delay changes when messages become visible again.
type Delay struct {
	Handles []pop.Handle
	For     time.Duration // from now
	Keep    bool          // the handles stay good: the consumer has not asked for it, and knows of no others
}

// Settlement is what became of one handle.
type Settlement struct {
	Verdict pop.Verdict
	Handle  pop.Handle // the one that is good now
}
