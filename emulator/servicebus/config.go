package servicebus

import (
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/broker"
)

// QueueConfig declares a queue, or a subscription of a topic.
type QueueConfig struct {
	Name string
	// LockDuration is how long a peek-lock lasts unless renewed; 0 = 1 minute, the service's default.
	LockDuration time.Duration
	// MaxDeliveryCount is how many failed deliveries move a message to the dead-letter queue; 0 = 10.
	MaxDeliveryCount int
	// DuplicateWindow is how long message ids are remembered; 0 = no duplicate detection.
	DuplicateWindow time.Duration
	// DefaultTTL is the longest time a message lives once it is active; 0 = for ever.
	DefaultTTL time.Duration
	// RequiresSession makes it an entity with sessions: senders must set a session id, receivers must accept one.
	RequiresSession bool
	// DeadLetterOnExpiration moves expired messages to the dead-letter queue instead of dropping them.
	DeadLetterOnExpiration bool
	// MaxSizeMessages refuses sends beyond that many messages with amqp:resource-limit-exceeded; 0 = unlimited.
	MaxSizeMessages int
}

// TopicConfig declares a topic. There are no filters: every subscription gets every message.
type TopicConfig struct {
	Name          string
	Subscriptions []QueueConfig
	// DuplicateWindow is how long message ids are remembered; 0 = no duplicate detection.
	DuplicateWindow time.Duration
}

// Key is a shared access rule. A wrong key, or one without any right on the entity, fails put-token with 401; a right
// that is missing for one direction refuses the link with amqp:unauthorized-access, and management with 401.
type Key struct {
	Name, Value  string
	Listen, Send bool
	// Queues are the queues or topics that it is for; empty = all.
	Queues []string
}

// Config is a whole namespace.
type Config struct {
	// Address to listen on; "" = "127.0.0.1:0".
	Address string
	Queues  []QueueConfig
	Topics  []TopicConfig
	// Keys are the shared access rules; none = one rule RootManageSharedAccessKey with all rights.
	Keys []Key
	// TLS makes the listener speak TLS, as the real service does; nil = plain TCP, as UseDevelopmentEmulator expects.
	TLS *tls.Config
	// AcceptToken judges an Entra token for an audience such as "amqps://host/queue"; nil refuses every one.
	AcceptToken func(jwt, audience string) error
	// Now is the clock; nil = the real one. With another clock the server looks at it every 10 ms, or on Server.Tick.
	Now    func() time.Time
	Logger *slog.Logger // nil = no log
	// Seed determines everything that is random: lock tokens, generated message ids and the probabilistic faults.
	Seed uint64
	// DropLockOnDetach releases the message locks of a receiver whose link ends. Azure's documentation says both that
	// and that they last until they expire, which is what false does. Session locks always end with the link.
	DropLockOnDetach bool
}

// defaultKeyName is the rule that every real namespace starts with; the value is the development emulator's.
const (
	defaultKeyName  = "RootManageSharedAccessKey"
	defaultKeyValue = "SAS_KEY_VALUE"
)

func (c Config) withDefaults() Config {
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	if len(c.Keys) == 0 {
		c.Keys = []Key{{Name: defaultKeyName, Value: defaultKeyValue, Listen: true, Send: true}}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// covers reports whether the rule is for the entity of a path: the queue or topic itself or anything below it.
func (k Key) covers(path string) bool {
	return len(k.Queues) == 0 || slices.ContainsFunc(k.Queues, func(name string) bool { return below(path, name) })
}

// below reports whether path is that of parent or of something below it, in any case of letters.
func below(path, parent string) bool {
	path, parent = strings.ToLower(path), strings.ToLower(parent)
	return path == parent || strings.HasPrefix(path, parent+"/")
}

func (q QueueConfig) broker() broker.Config {
	return broker.Config{
		LockDuration: q.LockDuration, MaxDeliveryCount: q.MaxDeliveryCount, DuplicateWindow: q.DuplicateWindow,
		DefaultTTL: q.DefaultTTL, RequiresSession: q.RequiresSession, DeadLetterOnExpiration: q.DeadLetterOnExpiration,
		MaxMessages: q.MaxSizeMessages,
	}
}

// populate declares the entities of c.
func (c Config) populate(b *broker.Broker) {
	for _, q := range c.Queues {
		b.AddQueue(q.Name, q.broker())
	}
	for _, t := range c.Topics {
		var subscriptions []*broker.Queue
		for _, s := range t.Subscriptions {
			subscriptions = append(subscriptions, b.AddQueue(t.Name+"/Subscriptions/"+s.Name, s.broker()))
		}
		b.AddTopic(t.Name, t.DuplicateWindow, subscriptions)
	}
}
