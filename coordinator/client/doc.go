// Package client is the way to the coordinators for everybody who is not one.
//
// [Sessions] is for agents: it watches every coordinator at once, because an
// agent must not depend on the one that happens to trail or to be cut off, and
// it makes each call through whoever answers. A broker uses it likewise, with calls and
// views of its own. All calls that change the
// replicated state are idempotent by the conditions that they carry, except
// [Sessions.Open]; so all others may be sent to several coordinators at a time.
package client
