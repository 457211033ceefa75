// Package bfd speaks Bidirectional Forwarding Detection: whether packets get through between here and a peer, and back, several times
// a second. RFC 5880 in asynchronous mode, RFC 5881 (one hop) and RFC 5883 (several hops), over IPv4 and IPv6, with routers of
// any make. No Demand mode and no Echo function from here, no authentication (docs/bfd.md).
//
//	datagram ──▶ receiver ──▶ table ──▶ session ──▶ packet ──▶ sender
//	             (socket)     which      what it                (socket)
//	                          session    means                     ╲
//	                                                                ▶ Change, to the sink
//
// [Packet], table and session are pure: the time is an argument, randomness is a discriminator given at the start, and what is to
// be done comes back as a value together with the instant at which to ask again. [Speaker.Run] is the only part that knows sockets
// and the clock. It is one goroutine, and it reads all sockets before it believes a timer: a process that the machine
// did not let run finds the packets that came meanwhile before it finds that time went by.
package bfd
