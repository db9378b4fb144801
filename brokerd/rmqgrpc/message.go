package rmqgrpc

import (
	"crypto/md5"
	"fmt"
	"maps"
	"slices"
	"time"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"holdfast/brokerd/record"
	"holdfast/brokerd/service"
)

// Names of properties that carry what the service has a field for, as RocketMQ's own logs
// have them.
const (
	propertyTrace     = "TRACE_CONTEXT"
	propertyDeadTopic = "DLQ_ORIGIN_TOPIC"
	propertyDeadID    = "DLQ_ORIGIN_MESSAGE_ID"
)

// compressed is RocketMQ's flag of bodies that the producer compressed.
const compressed = 1

// toRecord makes a record's message of a checked one. host is the producer's address, if
// the message names none.
func toRecord(m *v2.Message, host string) record.Message {
	p := m.GetSystemProperties()
	r := record.Message{
		BornTime: p.GetBornTimestamp().AsTime().UnixMilli(),
		BornHost: p.GetBornHost(),
		ID:       p.GetMessageId(),
		Tag:      p.GetTag(),
		Keys:     p.GetKeys(),
		Body:     m.GetBody(),
	}
	if r.BornHost == "" {
		r.BornHost = host
	}
	if p.GetBodyEncoding() == v2.Encoding_GZIP {
		r.SystemFlag |= compressed
	}
	for _, k := range slices.Sorted(maps.Keys(m.GetUserProperties())) {
		r.Properties = append(r.Properties, record.Property{Key: k, Value: m.GetUserProperties()[k]})
	}
	if t := p.GetTraceContext(); t != "" {
		r.Properties = append(r.Properties, record.Property{Key: propertyTrace, Value: t})
	}
	return r
}

// fromDelivery makes the message for a consumer of that namespace. storeHost is the
// broker's address.
func fromDelivery(d *service.Delivery, namespace, storeHost string, invisible time.Duration) *v2.Message {
	m := d.Message
	h := d.Handle
	text, offset, attempt := h.String(), int64(h.Offset), int32(d.Attempt)
	p := &v2.SystemProperties{
		Keys:            m.Keys,
		MessageId:       m.ID,
		BodyDigest:      &v2.Digest{Type: v2.DigestType_MD5, Checksum: fmt.Sprintf("%X", md5.Sum(m.Body))},
		BodyEncoding:    v2.Encoding_IDENTITY,
		MessageType:     v2.MessageType_NORMAL,
		BornTimestamp:   timestamppb.New(time.UnixMilli(m.BornTime)),
		BornHost:        m.BornHost,
		StoreTimestamp:  timestamppb.New(time.UnixMilli(d.StoreTime)),
		StoreHost:       storeHost,
		ReceiptHandle:   &text,
		QueueId:         int32(h.Queue),
		QueueOffset:     &offset,
		DeliveryAttempt: &attempt,
	}
	p.InvisibleDuration = durationpb.New(invisible)
	if m.Tag != "" {
		p.Tag = &m.Tag
	}
	if m.SystemFlag&compressed != 0 {
		p.BodyEncoding = v2.Encoding_GZIP
	}
	out := &v2.Message{Topic: nameOf(h.Topic, namespace), SystemProperties: p, Body: m.Body}
	for _, property := range m.Properties {
		setProperty(out, property)
	}
	return out
}

// setProperty puts a stored property where clients look for it.
func setProperty(m *v2.Message, p record.Property) {
	dead := func() *v2.DeadLetterQueue {
		if m.SystemProperties.DeadLetterQueue == nil {
			m.SystemProperties.DeadLetterQueue = &v2.DeadLetterQueue{}
		}
		return m.SystemProperties.DeadLetterQueue
	}
	switch {
	case p.Key == propertyTrace:
		m.SystemProperties.TraceContext = &p.Value
	case p.Key == propertyDeadTopic:
		dead().Topic = p.Value
	case p.Key == propertyDeadID:
		dead().MessageId = p.Value
	case reserved(p.Key): // the broker's own
	default:
		if m.UserProperties == nil {
			m.UserProperties = make(map[string]string)
		}
		m.UserProperties[p.Key] = p.Value
	}
}
