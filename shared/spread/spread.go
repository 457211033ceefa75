// Package spread deals keys to nodes so that everybody who knows the same nodes deals alike, and a node that goes takes nothing with it but its
// own keys: weighted rendezvous hashing, as the designated forwarder election of RFC 8584 (section 3) uses it.
//
//	key ──hash with each node──▶ score of each node ──▶ the highest wins; with a bound, the highest that has room
//
// A node's score does not depend on the other nodes. That is the whole trick: without one of them, the order of the rest is as before.
package spread

import (
	"math"
	"slices"
)

// Node is one that can be dealt keys.
type Node struct {
	Name   string
	Weight int // above zero: a node of weight 2 gets twice as many keys as one of weight 1
}

// Pair returns the key of the traffic between two places, the same for both directions. The names must not contain a "|".
func Pair(a, b string) string {
	if a == b {
		return a
	}
	return min(a, b) + "|" + max(a, b)
}

// Best returns the name of the node that the key belongs to; "" if there is no node.
func Best(key string, nodes []Node) string {
	var best Node
	score := math.Inf(-1)
	for _, n := range nodes {
		if s := n.score(key); s > score || s == score && n.Name < best.Name {
			best, score = n, s
		}
	}
	return best.Name
}

// Deal gives every key to one of the nodes that are up, none to more than the larger of its fair share and (1 + excess) times it. If none is up, or there is no
// node at all, the answer is nil.
//
// With a bound a key depends on the others, and it must not depend on who is up: a bound that moves with every death moves keys of the living. So
// keys are dealt twice. First each gets a home, as if all nodes were up: the best node in its order that has room. Then those whose home is down go to the best
// one that is up and has room. A key whose home is up is at home, so the death of one node moves its keys and no others.
//
// The keys are served by name, whatever their order; repeated ones count once.
func Deal(keys []string, nodes []Node, up func(Node) bool, excess float64) map[string]string {
	live := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return !up(n) })
	if len(live) == 0 {
		return nil
	}
	keys = slices.Clone(keys)
	slices.Sort(keys)
	keys = slices.Compact(keys)
	owners, room := make(map[string]string, len(keys)), rooms(len(keys), nodes, excess)
	for _, key := range keys {
		owners[key] = settle(key, nodes, room)
	}
	room = rooms(len(keys), live, excess) // for each more than at home, since fewer share the keys
	var homeless []string
	for _, key := range keys {
		if _, stays := room[owners[key]]; stays {
			room[owners[key]]--
		} else {
			homeless = append(homeless, key)
		}
	}
	for _, key := range homeless {
		owners[key] = settle(key, live, room)
	}
	return owners
}

// settle takes one room in the best node that has any, and returns its name.
func settle(key string, nodes []Node, room map[string]int) string {
	open := make([]Node, 0, len(nodes))
	for _, n := range nodes {
		if room[n.Name] > 0 {
			open = append(open, n)
		}
	}
	owner := Best(key, open)
	room[owner]--
	return owner
}

// rooms returns how many of the keys each node may have. The shares are rounded up, so all keys find room.
func rooms(keys int, nodes []Node, excess float64) map[string]int {
	total := 0
	for _, n := range nodes {
		total += n.Weight
	}
	room := make(map[string]int, len(nodes))
	for _, n := range nodes {
		share := float64(keys) * float64(n.Weight) / float64(total)
		room[n.Name] = int(max(math.Ceil(share), math.Floor(share*(1+excess))))
	}
	return room
}

// score is w / -ln u, where u is the hash as a number between 0 and 1, both excluded: the weighted form of rendezvous hashing.
func (n Node) score(key string) float64 {
	u := (float64(hash(key, n.Name)>>11) + 0.5) / (1 << 53)
	return float64(n.Weight) / -math.Log(u)
}

// hash is FNV-1a of the two texts with a zero between them, finished by mix: FNV alone hardly moves the high bits for texts that differ at
// their end, and then one node would win nearly all keys. It must never change: where it does, every key moves.
func hash(key, node string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, text := range []string{key, "\x00", node} {
		for i := range len(text) {
			h = (h ^ uint64(text[i])) * prime
		}
	}
	return mix(h)
}

// mix is the 64-bit finaliser of MurmurHash3: every bit of its input changes every bit of its output with probability one half.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
