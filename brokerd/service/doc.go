// Package service has what passes between a broker's endpoints for clients and its
// replica: requests, results and errors of one broker group, and the cluster as a broker
// knows it. It is PURE, so that endpoints and owner agree on it without knowing each other.
package service
