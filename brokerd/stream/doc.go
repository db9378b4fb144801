// Package stream carries the messages of replicas ([holdfast/brokerd/replica]) and the
// records of the log between the brokers of a group, over gRPC.
//
// Each broker has one stream to each other; what it has to say leaves there in order.
// Delivery is not promised: what was sent while there was no connection, or was in the
// buffers of one that broke, is lost, like a datagram. The protocol repeats what it
// needs.
package stream
