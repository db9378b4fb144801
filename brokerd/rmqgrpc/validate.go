package rmqgrpc

import (
	"strings"
	"time"
	"unicode"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

// Bounds of what clients may send. They are RocketMQ's own where it has one.
const (
	maxBody          = 4 << 20 // bytes of one message
	maxRequest       = 8 << 20 // bytes of one call, checked before it is decoded
	maxBatch         = 32      // messages or handles in one call
	maxProperties    = 128
	maxPropertyBytes = 16 << 10 // names and values, tag and keys
	maxTopic         = 127
	maxGroup         = 250 // its dead letter topic's name must fit a record
	maxClientID      = 255
	maxMessageID     = 255
	maxHost          = 255

	minInvisible = 10 * time.Second
	maxInvisible = 12 * time.Hour
)

const (
	deadLetterPrefix = "%DLQ%"
	namespaceMark    = "%"
)

// resource returns a topic's or group's full name: with its namespace, if it has one.
func resource(r *v2.Resource) string {
	if ns := r.GetResourceNamespace(); ns != "" {
		return ns + namespaceMark + r.GetName()
	}
	return r.GetName()
}

// nameOf is the inverse of resource, for clients of that namespace.
func nameOf(full, namespace string) *v2.Resource {
	name := full
	if namespace != "" {
		name = strings.TrimPrefix(full, namespace+namespaceMark)
	}
	return &v2.Resource{ResourceNamespace: namespace, Name: name}
}

// plain tells whether a name consists of what RocketMQ allows in names.
func plain(name string) bool {
	return strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("%|_-", r))
	}) < 0
}

func topicName(r *v2.Resource) (string, error) {
	name := resource(r)
	if r.GetName() == "" || len(name) > maxTopic+len(deadLetterPrefix) || !plain(name) {
		return "", refuse(v2.Code_ILLEGAL_TOPIC, "topic %.200q: must be 1 to %d of a-z, A-Z, 0-9, %%, |, _ and -", name, maxTopic)
	}
	if len(name) > maxTopic && !strings.HasPrefix(name, deadLetterPrefix) {
		return "", refuse(v2.Code_ILLEGAL_TOPIC, "topic %.200q is longer than %d", name, maxTopic)
	}
	return name, nil
}

// systemPrefixes begin names of topics that only brokers write to.
func systemPrefixes() []string { return []string{deadLetterPrefix, "%RETRY%", "RMQ_SYS_", "rmq_sys_"} }

// writable is topicName for topics that a producer may write to.
func writable(r *v2.Resource) (string, error) {
	name, err := topicName(r)
	if err != nil {
		return "", err
	}
	for _, p := range systemPrefixes() {
		if strings.HasPrefix(name, p) {
			return "", refuse(v2.Code_ILLEGAL_TOPIC, "topic %q is written by brokers alone", name)
		}
	}
	return name, nil
}

func groupName(r *v2.Resource) (string, error) {
	name := resource(r)
	if r.GetName() == "" || len(name) > maxGroup || !plain(name) {
		return "", refuse(v2.Code_ILLEGAL_CONSUMER_GROUP, "consumer group %.200q: must be 1 to %d of a-z, A-Z, 0-9, %%, |, _ and -", name, maxGroup)
	}
	return name, nil
}

// checkMessage refuses a message that is wrong by itself.
func checkMessage(m *v2.Message) error {
	switch n := len(m.GetBody()); {
	case n == 0:
		return refuse(v2.Code_MESSAGE_BODY_EMPTY, "the message has no body")
	case n > maxBody:
		return refuse(v2.Code_MESSAGE_BODY_TOO_LARGE, "body of %d bytes, at most %d", n, maxBody)
	}
	p := m.GetSystemProperties()
	if id := p.GetMessageId(); strings.TrimSpace(id) == "" || len(id) > maxMessageID {
		return refuse(v2.Code_ILLEGAL_MESSAGE_ID, "message id %.100q: must be 1 to %d bytes", id, maxMessageID)
	}
	if t := p.GetMessageType(); t != v2.MessageType_NORMAL && t != v2.MessageType_MESSAGE_TYPE_UNSPECIFIED ||
		p.MessageGroup != nil || p.DeliveryTimestamp != nil {
		return refuse(v2.Code_MESSAGE_PROPERTY_CONFLICT_WITH_TYPE, "a message of type %v, or with a message group or delivery time: only normal messages are accepted", t)
	}
	if e := p.GetBodyEncoding(); e != v2.Encoding_ENCODING_UNSPECIFIED && e != v2.Encoding_IDENTITY && e != v2.Encoding_GZIP {
		return refuse(v2.Code_BAD_REQUEST, "unknown body encoding %v", e)
	}
	if len(p.GetBornHost()) > maxHost {
		return refuse(v2.Code_BAD_REQUEST, "born host of %d bytes, at most %d", len(p.GetBornHost()), maxHost)
	}
	return checkProperties(m)
}

func checkProperties(m *v2.Message) error {
	p := m.GetSystemProperties()
	size := len(p.GetTag()) + len(p.GetTraceContext())
	if p.Tag != nil && (strings.TrimSpace(p.GetTag()) == "" || strings.Contains(p.GetTag(), "|") || hasControl(p.GetTag())) {
		return refuse(v2.Code_ILLEGAL_MESSAGE_TAG, "tag %.100q: must not be blank, nor have | or control characters", p.GetTag())
	}
	for _, k := range p.GetKeys() {
		size += len(k) + 1
		if strings.TrimSpace(k) == "" || hasControl(k) {
			return refuse(v2.Code_ILLEGAL_MESSAGE_KEY, "key %.100q: must not be blank, nor have control characters", k)
		}
	}
	if n := len(m.GetUserProperties()); n > maxProperties {
		return refuse(v2.Code_MESSAGE_PROPERTIES_TOO_LARGE, "%d properties, at most %d", n, maxProperties)
	}
	for k, v := range m.GetUserProperties() {
		size += len(k) + len(v)
		if strings.TrimSpace(k) == "" || hasControl(k) || reserved(k) {
			return refuse(v2.Code_ILLEGAL_MESSAGE_PROPERTY_KEY, "property %.100q: must not be blank, nor have control characters, nor be a name of RocketMQ's own", k)
		}
		if strings.TrimSpace(v) == "" || hasControl(v) {
			return refuse(v2.Code_ILLEGAL_MESSAGE_PROPERTY_KEY, "value of property %.100q: must not be blank, nor have control characters", k)
		}
	}
	if size > maxPropertyBytes {
		return refuse(v2.Code_MESSAGE_PROPERTIES_TOO_LARGE, "tag, keys and properties of %d bytes, at most %d", size, maxPropertyBytes)
	}
	return nil
}

func hasControl(s string) bool { return strings.IndexFunc(s, unicode.IsControl) >= 0 }

// reserved tells whether a property's name means something to RocketMQ.
func reserved(name string) bool {
	switch name {
	case "KEYS", "TAGS", "WAIT", "DELAY", "RETRY_TOPIC", "REAL_TOPIC", "REAL_QID", "TRAN_MSG", "PGROUP", "MIN_OFFSET", "MAX_OFFSET",
		"BUYER_ID", "ORIGIN_MESSAGE_ID", "TRANSFER_FLAG", "CORRECTION_FLAG", "MQ2_FLAG", "RECONSUME_TIME", "MSG_REGION", "TRACE_ON",
		"UNIQ_KEY", "EXTEND_UNIQ_INFO", "MAX_RECONSUME_TIMES", "CONSUME_START_TIME", "INNER_NUM", "INNER_BASE", "DUP_INFO",
		"CHECK_IMMUNITY_TIME_IN_SECONDS", "TRAN_PREPARED_QUEUE_OFFSET", "TRANSACTION_CHECK_TIMES", "__transactionId__",
		"POP_CK", "POP_CK_OFFSET", "1ST_POP_TIME", "__SHARDINGKEY", "INSTANCE_ID", "CORRELATION_ID", "REPLY_TO_CLIENT", "TTL",
		"ARRIVE_TIME", "PUSH_REPLY_TIME", "CLUSTER", "MSG_TYPE", "INNER_MULTI_DISPATCH", "INNER_MULTI_QUEUE_OFFSET",
		"TIMER_DELAY_MS", "TIMER_DELAY_SEC", "TIMER_DELIVER_MS", "TIMER_ENQUEUE_MS", "TIMER_DEQUEUE_MS", "TIMER_ROLL_TIMES",
		"TIMER_OUT_MS", "TIMER_DEL_UNIQKEY", "TIMER_DELAY_LEVEL", "TIMER_DEL_MS",
		propertyTrace, propertyDeadTopic, propertyDeadID:
		return true
	}
	return strings.HasPrefix(name, "__RMQ.")
}
