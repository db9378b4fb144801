package rmqgrpc

import (
	"context"
	"net"
	"net/netip"
	"strconv"

	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"

	"holdfast/brokerd/service"
)

// endpoints are the live brokers' addresses, the same for every queue: whichever a client
// turns to passes its call on.
func endpoints(v *service.View) *v2.Endpoints {
	e := &v2.Endpoints{Scheme: v2.AddressScheme_IPv4}
	for _, b := range v.Brokers {
		host, port, err := net.SplitHostPort(b.Address)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || perr != nil {
			continue
		}
		switch ip, err := netip.ParseAddr(host); {
		case err != nil:
			// One name makes names of all, which clients resolve alike.
			e.Scheme = v2.AddressScheme_DOMAIN_NAME
		case ip.Is6() && e.Scheme == v2.AddressScheme_IPv4:
			e.Scheme = v2.AddressScheme_IPv6
		}
		e.Addresses = append(e.Addresses, &v2.Address{Host: host, Port: int32(n)})
	}
	return e
}

// queue describes a queue to clients; id is [service.AnyQueue] for all of the group's.
func queue(topic *v2.Resource, group string, id int32, e *v2.Endpoints) *v2.MessageQueue {
	return &v2.MessageQueue{
		Topic:              topic,
		Id:                 id,
		Permission:         v2.Permission_READ_WRITE,
		Broker:             &v2.Broker{Name: group, Id: 0, Endpoints: e},
		AcceptMessageTypes: []v2.MessageType{v2.MessageType_NORMAL},
	}
}

// topic returns a topic, made now if it is not there and may be.
func (s *Server) topic(ctx context.Context, r *v2.Resource) (service.Topic, *service.View, error) {
	name, err := topicName(r)
	if err != nil {
		return service.Topic{}, nil, err
	}
	ctx, cancel := budget(ctx)
	defer cancel()
	for {
		v := s.cluster.View()
		if t, ok := v.Topic(name); ok && len(t.Queues) > 0 {
			return t, v, nil
		}
		if _, err := writable(r); err != nil {
			return service.Topic{}, nil, refuse(v2.Code_TOPIC_NOT_FOUND, "no topic %s", name)
		}
		if err := s.cluster.Ensure(ctx, name); err != nil {
			return service.Topic{}, nil, err
		}
		if !s.pause(ctx, v.Index) {
			return service.Topic{}, nil, refuse(v2.Code_TOPIC_NOT_FOUND, "topic %s was made and is not there yet", name)
		}
	}
}

// QueryRoute lists the topic's queues, in an order that changes only with the topic.
func (s *Server) QueryRoute(ctx context.Context, r *v2.QueryRouteRequest) (*v2.QueryRouteResponse, error) {
	if _, err := client(ctx); err != nil {
		return &v2.QueryRouteResponse{Status: status(err)}, nil
	}
	t, v, err := s.topic(ctx, r.GetTopic())
	if err != nil {
		return &v2.QueryRouteResponse{Status: status(err)}, nil
	}
	reply := &v2.QueryRouteResponse{Status: status(nil)}
	e := endpoints(v)
	for _, q := range t.All() {
		reply.MessageQueues = append(reply.MessageQueues, queue(r.GetTopic(), q.Group, int32(q.ID), e))
	}
	return reply, nil
}

// QueryAssignment gives every consumer of a group the same: one queue for each broker
// group, which stands for all that the topic has there. Who gets which message is settled
// when it is received.
func (s *Server) QueryAssignment(ctx context.Context, r *v2.QueryAssignmentRequest) (*v2.QueryAssignmentResponse, error) {
	if _, err := client(ctx); err != nil {
		return &v2.QueryAssignmentResponse{Status: status(err)}, nil
	}
	if _, err := groupName(r.GetGroup()); err != nil {
		return &v2.QueryAssignmentResponse{Status: status(err)}, nil
	}
	t, v, err := s.topic(ctx, r.GetTopic())
	if err != nil {
		return &v2.QueryAssignmentResponse{Status: status(err)}, nil
	}
	reply := &v2.QueryAssignmentResponse{Status: status(nil)}
	e := endpoints(v)
	for _, q := range t.Queues {
		reply.Assignments = append(reply.Assignments, &v2.Assignment{MessageQueue: queue(r.GetTopic(), q.Group, service.AnyQueue, e)})
	}
	return reply, nil
}
