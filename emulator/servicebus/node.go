package servicebus

import (
	"net/url"
	"strings"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
	"github.com/pointsman/pointsman/emulator/servicebus/internal/broker"
)

// nodeKind is what a link leads to.
type nodeKind int

const (
	nodeCBS nodeKind = iota + 1
	nodeManagement
	nodeEntity
)

// node is an address that links can attach to.
type node struct {
	kind  nodeKind
	path  string        // lower case, without scheme and host
	queue *broker.Queue // nil for nodeCBS
}

const (
	cbsPath          = "$cbs"
	managementSuffix = "/$management"
)

// pathOf strips scheme and host from an address or audience and lowers it: entity names are case-insensitive.
func pathOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Scheme != "" && u.Host != "" {
		address = u.Path
	}
	return strings.ToLower(strings.Trim(address, "/"))
}

// resolve finds the node of an address, for which the connection must have put a token with the right.
func (s *amqpSession) resolve(now time.Time, address string, need right) (node, *amqp.Error) {
	n := node{kind: nodeEntity, path: pathOf(address)}
	if n.path == cbsPath {
		n.kind = nodeCBS
		return n, nil
	}
	name, isManagement := strings.CutSuffix(n.path, managementSuffix)
	if isManagement {
		n.kind, need = nodeManagement, rightAny
	}
	if !s.conn.allowed(now, n.path, need) {
		return node{}, &amqp.Error{
			Condition:   condUnauthorized,
			Description: "unauthorized access: " + need.String() + " claim is required for " + n.path,
		}
	}
	q, ok := s.conn.server.broker.Lookup(name)
	if !ok {
		return node{}, &amqp.Error{Condition: condNotFound, Description: "the messaging entity '" + name + "' could not be found"}
	}
	if s.conn.server.faults.disabled[q] {
		return node{}, disabled(name)
	}
	n.queue = q
	return n, nil
}
