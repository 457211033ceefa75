package documents

import "sync"

// cache keeps something of documents, by name and ETag. It never says what is current: the ETag
// goes with a read as its condition, and only the store's answer to that read, "still this one", makes a kept document the answer.
//
// Two generations bound it. What is used lives in the young one; when that is full it becomes the old one, and what the old one held
// and nobody asked for since is forgotten:
//
//	put ──▶ young ──full──▶ old ──full again──▶ gone
//	          ▲               │
//	          └────── get ────┘
type cache[T any] struct {
	most int // size of a generation, in bytes of text

	mu         sync.Mutex
	young, old map[string]kept[T]
	size       int // of the young
}

// kept is what is kept of one document. Everybody who asks gets the same: it must not be changed.
type kept[T any] struct {
	doc  T
	etag string
	size int // of the document's text, in bytes
}

// is reports whether this is the document of that ETag.
func (k kept[T]) is(etag string) bool { return k.etag != "" && k.etag == etag }

func newCache[T any](most int) *cache[T] {
	return &cache[T]{most: most, young: map[string]kept[T]{}}
}

// get returns what is kept under the name; an empty ETag where there is nothing.
func (c *cache[T]) get(name string) kept[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.young[name]
	if !ok {
		if k, ok = c.old[name]; ok {
			c.put(name, k)
		}
	}
	return k
}

// keep puts a document in the place of an older one of the name. One that is larger than a generation is not kept.
func (c *cache[T]) keep(name string, k kept[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(name, k)
}

// put is keep under the lock.
func (c *cache[T]) put(name string, k kept[T]) {
	delete(c.old, name)
	c.size -= c.young[name].size
	delete(c.young, name)
	if k.size > c.most {
		return
	}
	if c.size+k.size > c.most {
		c.old, c.young, c.size = c.young, map[string]kept[T]{}, 0
	}
	c.young[name] = k
	c.size += k.size
}
