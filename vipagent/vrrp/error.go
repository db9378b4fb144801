package vrrp

import (
	"errors"
	"fmt"
)

// ErrMalformed is in the chain of every error about the bytes of an advertisement.
var ErrMalformed = errors.New("malformed advertisement")

// ErrRefused is in the chain of every error about a well-formed advertisement that
// is not for this router.
var ErrRefused = errors.New("refused advertisement")

// Reason is why an advertisement is not taken in: which field is wrong.
type Reason uint8

// The reasons. Their words, see [Reason.String], are the names of Keepalived's
// counters; those in brackets it does not count in every build or at all.
const (
	BadLength     Reason = iota + 1 // packet_len_err
	BadTTL                          // ip_ttl_err
	BadVersion                      // (vers_err) another version
	BadFamily                       // (family_err) version 2 over IPv6, or addresses of two families
	BadVRID                         // (vrid_err) another virtual router
	BadAuthType                     // invalid_authtype
	OtherAuth                       // authtype_mismatch
	BadPassword                     // auth_failure
	BadInterval                     // advert_interval_err
	BadType                         // invalid_type_rcvd
	BadChecksum                     // (chk_err)
	BadAddresses                    // addr_list_err
	BadCast                         // addr_list_err: multicast to a unicast router, or the reverse; Keepalived counts it there
	UnknownPeer                     // (unknown_peer) a unicast source that is not in the list
	OwnerIgnores                    // (owner_ignores) the owner does not listen
	reasonsBehind                   // one more than the last
)

// String is the name of the counter.
func (r Reason) String() string {
	words := [reasonsBehind]string{
		BadLength: "packet_len_err", BadTTL: "ip_ttl_err", BadVersion: "vers_err", BadFamily: "family_err", BadVRID: "vrid_err",
		BadAuthType: "invalid_authtype", OtherAuth: "authtype_mismatch", BadPassword: "auth_failure", BadInterval: "advert_interval_err",
		BadType: "invalid_type_rcvd", BadChecksum: "chk_err", BadAddresses: "addr_list_err", BadCast: "addr_list_err",
		UnknownPeer: "unknown_peer", OwnerIgnores: "owner_ignores",
	}
	if r >= reasonsBehind || words[r] == "" {
		return "unknown"
	}
	return words[r]
}

// Error says which field of an advertisement is wrong.
type Error struct {
	Reason Reason
	Text   string // with the values
	kind   error  // ErrMalformed, ErrRefused
}

// Error is the text.
func (e *Error) Error() string { return e.Text }

// Unwrap returns [ErrMalformed] or [ErrRefused]; nil of an encoder's error.
func (e *Error) Unwrap() error { return e.kind }

// ReasonOf returns the reason in the chain of err, 0 if there is none.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return 0
}

func unfit(r Reason, format string, values ...any) error {
	return &Error{Reason: r, Text: fmt.Sprintf(format, values...)}
}

func malformed(r Reason, format string, values ...any) error {
	return &Error{Reason: r, Text: fmt.Sprintf(format, values...), kind: ErrMalformed}
}

func refused(r Reason, format string, values ...any) error {
	return &Error{Reason: r, Text: fmt.Sprintf(format, values...), kind: ErrRefused}
}
