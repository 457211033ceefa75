package blob

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// suffix of the files that hold blobs; it also keeps a blob called ".." from being a directory.
const suffix = ".blob"

// store holds all containers. With a directory every change is on the disk before it is in memory: a container is a directory, a blob
// a file of one JSON line (its properties) and its content, replaced by rename.
type store struct {
	directory  string
	now        func() time.Time
	lastTag    int64
	containers map[string]*container
}

type container struct {
	name     string
	etag     string
	modified time.Time
	blobs    map[string]*item
}

// item is one blob. It is immutable: a change makes a new one.
type item struct {
	Name     string
	Kind     string // BlockBlob or AppendBlob
	ETag     string // quoted
	Created  time.Time
	Modified time.Time
	Blocks   int // of an append blob
	// Header holds the content headers and the metadata that were given and are given back.
	Header http.Header
	data   []byte
}

// openStore loads directory, or returns an empty store in memory if it is "".
func openStore(directory string, now func() time.Time) (*store, error) {
	s := &store{directory: directory, now: now, containers: map[string]*container{}}
	if directory == "" {
		return s, nil
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, fmt.Errorf("blob emulator: %w", err)
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, fmt.Errorf("blob emulator: %w", err)
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		if err = s.loadContainer(entry.Name()); err != nil {
			return nil, fmt.Errorf("blob emulator: container %s: %w", entry.Name(), err)
		}
	}
	return s, nil
}

func (s *store) loadContainer(name string) error {
	c := s.newContainer(name)
	files, err := os.ReadDir(filepath.Join(s.directory, name))
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), suffix) {
			continue // a temporary file of a write that did not end
		}
		blob, damage := loadItem(filepath.Join(s.directory, name, file.Name()))
		if damage != nil {
			return damage
		}
		c.blobs[blob.Name] = blob
		s.lastTag = max(s.lastTag, tagNumber(blob.ETag))
	}
	return nil
}

// tagNumber is the inverse of newTag, so that tags go on growing after a restart even with a clock that has gone back.
func tagNumber(etag string) int64 {
	number, err := strconv.ParseInt(strings.Trim(etag, `"`), 0, 64)
	if err != nil {
		return 0
	}
	return number
}

func loadItem(path string) (*item, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	head, data, _ := bytes.Cut(content, []byte("\n"))
	blob := &item{data: data}
	if err = json.Unmarshal(head, blob); err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	return blob, nil
}

// newTag returns an ETag that no earlier write had, not even one before a restart.
func (s *store) newTag() string {
	s.lastTag = max(s.lastTag+1, s.now().UnixNano()/100)
	return fmt.Sprintf(`"0x%X"`, s.lastTag)
}

func (s *store) newContainer(name string) *container {
	c := &container{name: name, etag: s.newTag(), modified: s.now(), blobs: map[string]*item{}}
	s.containers[name] = c
	return c
}

func (s *store) createContainer(name string) (*container, error) {
	if s.directory != "" {
		if err := os.MkdirAll(filepath.Join(s.directory, name), 0o755); err != nil {
			return nil, fmt.Errorf("create container %s: %w", name, err)
		}
		if err := syncDirectory(s.directory); err != nil {
			return nil, err
		}
	}
	return s.newContainer(name), nil
}

func (s *store) deleteContainer(name string) error {
	if s.directory != "" {
		if err := os.RemoveAll(filepath.Join(s.directory, name)); err != nil {
			return fmt.Errorf("delete container %s: %w", name, err)
		}
	}
	delete(s.containers, name)
	return nil
}

// put stores blob with a new ETag and modification time.
func (s *store) put(c *container, blob item) (*item, error) {
	blob.ETag, blob.Modified = s.newTag(), s.now()
	if blob.Created.IsZero() {
		blob.Created = blob.Modified
	}
	if s.directory != "" {
		if err := s.write(c, &blob); err != nil {
			return nil, err
		}
	}
	c.blobs[blob.Name] = &blob
	return &blob, nil
}

// write replaces the blob's file: the order is content, fsync, rename, fsync of the directory, so that a crash leaves the old file or
// the new one.
func (s *store) write(c *container, blob *item) error {
	head, err := json.Marshal(blob)
	if err != nil {
		return fmt.Errorf("write %s: %w", blob.Name, err)
	}
	directory := filepath.Join(s.directory, c.name)
	file, err := os.CreateTemp(directory, "write-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", blob.Name, err)
	}
	_, err = file.Write(append(append(head, '\n'), blob.data...))
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), s.path(c, blob.Name))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", blob.Name, errors.Join(err, os.Remove(file.Name())))
	}
	return syncDirectory(directory)
}

func (s *store) remove(c *container, name string) error {
	if s.directory != "" {
		if err := os.Remove(s.path(c, name)); err != nil {
			return fmt.Errorf("delete %s: %w", name, err)
		}
		if err := syncDirectory(filepath.Join(s.directory, c.name)); err != nil {
			return err
		}
	}
	delete(c.blobs, name)
	return nil
}

func (s *store) path(c *container, name string) string {
	return filepath.Join(s.directory, c.name, url.PathEscape(name)+suffix)
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	if err = errors.Join(directory.Sync(), directory.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// header returns the container's properties.
func (c *container) header() http.Header {
	header := http.Header{}
	header.Set("ETag", c.etag)
	header.Set("Last-Modified", c.modified.UTC().Format(http.TimeFormat))
	return header
}

// header returns the properties that every answer about the blob carries.
func (i *item) header() http.Header {
	header := http.Header{}
	header.Set("ETag", i.ETag)
	header.Set("Last-Modified", i.Modified.UTC().Format(http.TimeFormat))
	return header
}
