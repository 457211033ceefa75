// Package message is what goes over the bus, before any SDK type.
package message

// Message is one message of a queue. Its ID is what duplicate detection goes by: two messages with one ID say the same thing.
type Message struct {
	ID          string // at most 128 characters (Service Bus MessageId)
	ContentType string
	Subject     string // for people who look into the queue; no decision rests on it
	Traceparent string // W3C Trace Context, for whoever follows messages through the bus; "": none
	Body        []byte
}
