// Package e2e has the end-to-end tests: real coordinators, agents and coordctl
// in the network of test/lab, one file for each promise.
//
// The tests share one cluster of three hosts where the promise allows it. A
// figure is held to its promise plus the time that the machine itself, measured
// while it was taken, held the lab up; to nothing looser.
package e2e
