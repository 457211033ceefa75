// Package servicebus is an Azure Service Bus namespace in one process: unmodified Service Bus clients (azservicebus for
// Go, @azure/service-bus for JavaScript) work against it over TCP, TLS or an in-memory connection. It keeps messages in
// memory only, and it can be told to misbehave: see Faults.
//
// It speaks AMQP 1.0 with claims-based security ($cbs) and the request-response operations ($management), as written in
// Microsoft's "AMQP 1.0 in Azure Service Bus and Event Hubs protocol guide" and "request-response operations". What
// Microsoft leaves open is done the way the two clients need it; such places have a comment.
//
// There is no administration interface: entities are declared in Config. Topics have no filters, there are no
// transactions, no partitions and no geo-replication, and links and connections are not closed for being idle.
//
// The files, from the wire inwards: internal/amqp (codec, framing), conn.go (one connection), amqpsession.go (windows),
// sender.go and receiver.go (links, named from the client's point of view), cbs.go, management.go, internal/broker
// (entities), server.go (what holds them together).
package servicebus
