// Package rmq runs the official RocketMQ 5 client for Go against the project's endpoint.
// It is a module of its own, so that the client's dependencies stay out of the programs'.
package rmq
