package broker

import (
	"cmp"
	"slices"
)

// lane is a queue of messages in the order of their sequence numbers, cheap at both ends.
type lane struct {
	items []*Message
	head  int // items before it are gone
}

func (l *lane) first() *Message {
	if l.head == len(l.items) {
		return nil
	}
	return l.items[l.head]
}

func (l *lane) find(m *Message) (int, bool) {
	i, ok := slices.BinarySearchFunc(l.items[l.head:], m, func(a, b *Message) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return i + l.head, ok
}

func (l *lane) insert(m *Message) {
	if n := len(l.items); n == l.head || l.items[n-1].Sequence < m.Sequence {
		l.items = append(l.items, m)
		return
	}
	i, _ := l.find(m)
	if i == l.head && l.head > 0 {
		l.head--
		l.items[l.head] = m
		return
	}
	l.items = slices.Insert(l.items, i, m)
}

func (l *lane) remove(m *Message) {
	i, ok := l.find(m)
	if !ok {
		panic("broker: a ready message is not in its lane")
	}
	if i != l.head {
		l.items = slices.Delete(l.items, i, i+1)
		return
	}
	l.items[i] = nil
	l.head++
	if l.head == len(l.items) {
		l.items, l.head = l.items[:0], 0
	} else if l.head > 1024 && l.head > len(l.items)/2 {
		l.items = slices.Clone(l.items[l.head:])
		l.head = 0
	}
}
