package blob

import (
	"crypto/md5" // Content-MD5 is part of the protocol
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxResults is the size of a list's page if the client names none.
const maxResults = 5000

func (s *Server) createContainer(r request) response {
	valid := func(c rune) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' }
	name := r.container
	if len(name) < 3 || len(name) > 63 || name[0] == '-' || strings.ContainsFunc(name, func(c rune) bool { return !valid(c) }) {
		return fail(http.StatusBadRequest, "InvalidResourceName", "The specified resource name contains invalid characters.")
	}
	if s.store.containers[name] != nil {
		return fail(http.StatusConflict, "ContainerAlreadyExists", "The specified container already exists.")
	}
	c, err := s.store.createContainer(name)
	if err != nil {
		return diskFailure(err)
	}
	return response{status: http.StatusCreated, header: c.header()}
}

func (s *Server) deleteContainer(r request) response {
	if err := s.store.deleteContainer(r.container); err != nil {
		return diskFailure(err)
	}
	return response{status: http.StatusAccepted}
}

// putBlob creates or replaces a block blob, or creates an empty append blob.
func (s *Server) putBlob(r request, c *container) response {
	kind := r.header.Get("X-Ms-Blob-Type")
	if kind != "BlockBlob" && (kind != "AppendBlob" || len(r.body) > 0) {
		return fail(http.StatusBadRequest, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.")
	}
	current := c.blobs[r.name]
	if refusal := checkWrite(r, current); refusal != nil {
		return *refusal
	}
	sum, refusal := checkMD5(r)
	if refusal != nil {
		return *refusal
	}
	blob := item{Name: r.name, Kind: kind, Header: contentHeaders(r.header), data: r.body}
	if kind == "BlockBlob" {
		blob.Header.Set("Content-MD5", sum)
	}
	if current != nil {
		blob.Created = current.Created
	}
	stored, err := s.store.put(c, blob)
	if err != nil {
		return diskFailure(err)
	}
	return written(stored, sum)
}

// appendBlock adds a block at the end of an append blob.
func (s *Server) appendBlock(r request, c *container) response {
	current := c.blobs[r.name]
	if current == nil {
		return notFound()
	}
	if current.Kind != "AppendBlob" {
		return fail(http.StatusConflict, "InvalidBlobType", "The blob type is invalid for this operation.")
	}
	if refusal := checkWrite(r, current); refusal != nil {
		return *refusal
	}
	if refusal := s.checkAppend(r, current); refusal != nil {
		return *refusal
	}
	sum, refusal := checkMD5(r)
	if refusal != nil {
		return *refusal
	}
	blob, offset := *current, len(current.data)
	blob.data = append(slices.Clip(current.data), r.body...)
	blob.Blocks++
	stored, err := s.store.put(c, blob)
	if err != nil {
		return diskFailure(err)
	}
	answer := written(stored, sum)
	answer.header.Set("X-Ms-Blob-Append-Offset", strconv.Itoa(offset))
	answer.header.Set("X-Ms-Blob-Committed-Block-Count", strconv.Itoa(stored.Blocks))
	return answer
}

// checkAppend applies the conditions that only Append Block has.
func (s *Server) checkAppend(r request, current *item) *response {
	if len(r.body) == 0 {
		answer := fail(http.StatusBadRequest, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.")
		return &answer
	}
	if position := r.header.Get("X-Ms-Blob-Condition-Appendpos"); position != "" && position != strconv.Itoa(len(current.data)) {
		answer := fail(http.StatusPreconditionFailed, "AppendPositionConditionNotMet", "The append position condition specified was not met.")
		return &answer
	}
	if text := r.header.Get("X-Ms-Blob-Condition-Maxsize"); text != "" {
		if limit, err := strconv.Atoi(text); err != nil || len(current.data)+len(r.body) > limit {
			answer := fail(http.StatusPreconditionFailed, "MaxBlobSizeConditionNotMet", "The max blob size condition specified was not met.")
			return &answer
		}
	}
	if current.Blocks >= s.cfg.MaxBlocks {
		answer := fail(http.StatusConflict, "BlockCountExceedsLimit", "The committed block count cannot exceed the maximum limit.")
		return &answer
	}
	return nil
}

// getBlob answers Get Blob and Get Blob Properties; the sender leaves a HEAD's body out.
func getBlob(r request, c *container) response {
	blob := c.blobs[r.name]
	if blob == nil {
		return notFound()
	}
	if refusal := checkRead(r, blob); refusal != nil {
		return *refusal
	}
	header := blob.header()
	maps.Copy(header, blob.Header)
	header.Set("Accept-Ranges", "bytes")
	header.Set("X-Ms-Blob-Type", blob.Kind)
	header.Set("X-Ms-Creation-Time", blob.Created.UTC().Format(http.TimeFormat))
	header.Set("X-Ms-Lease-State", "available")
	header.Set("X-Ms-Lease-Status", "unlocked")
	if blob.Kind == "AppendBlob" {
		header.Set("X-Ms-Blob-Committed-Block-Count", strconv.Itoa(blob.Blocks))
	}
	status, data := http.StatusOK, blob.data
	if text := rangeHeader(r.header); text != "" && r.method == http.MethodGet {
		from, to, ok := parseRange(text, len(blob.data))
		if !ok {
			return fail(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The range specified is invalid for the current size of the resource.")
		}
		status, data = http.StatusPartialContent, blob.data[from:to]
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(blob.data)))
		header.Del("Content-MD5")
	}
	header.Set("Content-Length", strconv.Itoa(len(data)))
	return response{status: status, header: header, body: data}
}

func (s *Server) deleteBlob(r request, c *container) response {
	current := c.blobs[r.name]
	if current == nil {
		return notFound()
	}
	if refusal := checkWrite(r, current); refusal != nil {
		return *refusal
	}
	if err := s.store.remove(c, r.name); err != nil {
		return diskFailure(err)
	}
	return response{status: http.StatusAccepted}
}

// checkWrite applies the conditional headers to a write of current (nil: no such blob).
func checkWrite(r request, current *item) *response {
	if match := r.header.Get("If-Match"); match != "" && (current == nil || match != "*" && !sameTag(match, current.ETag)) {
		answer := conditionNotMet()
		return &answer
	}
	none := r.header.Get("If-None-Match")
	if current != nil && none == "*" {
		answer := fail(http.StatusConflict, "BlobAlreadyExists", "The specified blob already exists.")
		return &answer
	}
	if current == nil {
		return nil
	}
	if none != "" && sameTag(none, current.ETag) || changedSince(r.header, "If-Unmodified-Since", current, false) ||
		changedSince(r.header, "If-Modified-Since", current, true) {
		answer := conditionNotMet()
		return &answer
	}
	return nil
}

// checkRead applies the conditional headers to a read.
func checkRead(r request, blob *item) *response {
	if match := r.header.Get("If-Match"); match != "" && match != "*" && !sameTag(match, blob.ETag) ||
		changedSince(r.header, "If-Unmodified-Since", blob, false) {
		answer := conditionNotMet()
		return &answer
	}
	if none := r.header.Get("If-None-Match"); none != "" && (none == "*" || sameTag(none, blob.ETag)) ||
		changedSince(r.header, "If-Modified-Since", blob, true) {
		answer := fail(http.StatusNotModified, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
		answer.body = nil
		maps.Copy(answer.header, blob.header())
		return &answer
	}
	return nil
}

// changedSince reports whether the header is there and its date condition fails: with unchanged, that the blob has not changed since.
func changedSince(header http.Header, name string, blob *item, unchanged bool) bool {
	since, err := time.Parse(http.TimeFormat, header.Get(name))
	if err != nil {
		return false
	}
	return blob.Modified.Truncate(time.Second).After(since) != unchanged
}

// sameTag compares ETags as the service does: with or without quotes.
func sameTag(a, b string) bool { return strings.Trim(a, `"`) == strings.Trim(b, `"`) }

// checkMD5 returns the body's MD5, or the refusal if the client computed another.
func checkMD5(r request) (sum string, refusal *response) {
	digest := md5.Sum(r.body) // see the import
	sum = base64.StdEncoding.EncodeToString(digest[:])
	if given := r.header.Get("Content-MD5"); given != "" && given != sum {
		answer := fail(http.StatusBadRequest, "Md5Mismatch", "The MD5 value specified in the request did not match with the MD5 value calculated by the server.")
		return "", &answer
	}
	return sum, nil
}

// contentHeaders keeps what Put Blob stores: the x-ms-blob- content headers and the metadata.
func contentHeaders(given http.Header) http.Header {
	kept := http.Header{}
	kept.Set("Content-Type", "application/octet-stream")
	if value := given.Get("Content-Type"); value != "" {
		kept.Set("Content-Type", value)
	}
	for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Cache-Control"} {
		if value := given.Get("X-Ms-Blob-" + name); value != "" {
			kept.Set(name, value)
		}
	}
	for name, values := range given {
		if strings.HasPrefix(name, "X-Ms-Meta-") {
			kept[name] = values
		}
	}
	return kept
}

func written(blob *item, sum string) response {
	header := blob.header()
	header.Set("Content-MD5", sum)
	header.Set("X-Ms-Request-Server-Encrypted", "true")
	return response{status: http.StatusCreated, header: header}
}

func rangeHeader(header http.Header) string {
	if text := header.Get("X-Ms-Range"); text != "" {
		return text
	}
	return header.Get("Range")
}

// parseRange reads bytes=FROM- or bytes=FROM-TO and returns the half-open interval in size bytes.
func parseRange(text string, size int) (from, to int, ok bool) {
	first, last, ok := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	from, err := strconv.Atoi(first)
	if !ok || err != nil || from < 0 || from >= size {
		return 0, 0, false
	}
	if last == "" {
		return from, size, true
	}
	to, err = strconv.Atoi(last)
	if err != nil || to < from {
		return 0, 0, false
	}
	return from, min(to+1, size), true
}

// enumeration is the answer of both lists.
type enumeration struct {
	XMLName         xml.Name         `xml:"EnumerationResults"`
	ServiceEndpoint string           `xml:",attr"`
	ContainerName   string           `xml:",attr,omitempty"`
	Prefix          string           `xml:",omitempty"`
	Marker          string           `xml:",omitempty"`
	Delimiter       string           `xml:",omitempty"`
	Containers      []listedResource `xml:"Containers>Container,omitempty"`
	Blobs           []listedResource `xml:"Blobs>Blob,omitempty"`
	Prefixes        []listedPrefix   `xml:"Blobs>BlobPrefix,omitempty"`
	NextMarker      string
}

type listedPrefix struct{ Name string }

type listedResource struct {
	Name       string
	Properties listedProperties
	Metadata   metadata `xml:",omitempty"`
}

type listedProperties struct {
	CreationTime    string `xml:"Creation-Time,omitempty"`
	LastModified    string `xml:"Last-Modified"`
	Etag            string
	ContentLength   *int   `xml:"Content-Length,omitempty"`
	ContentType     string `xml:"Content-Type,omitempty"`
	ContentEncoding string `xml:"Content-Encoding,omitempty"`
	ContentMD5      string `xml:"Content-MD5,omitempty"`
	BlobType        string `xml:",omitempty"`
	LeaseStatus     string
	LeaseState      string
}

// metadata is name and value as an element each.
type metadata map[string]string

// MarshalXML writes the names in order.
func (m metadata) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if err := e.EncodeToken(start); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if err := e.EncodeElement(m[name], xml.StartElement{Name: xml.Name{Local: name}}); err != nil {
			return fmt.Errorf("metadata %s: %w", name, err)
		}
	}
	if err := e.EncodeToken(start.End()); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	return nil
}

func (s *Server) listContainers(r request) response {
	result := newEnumeration(r)
	names := page(r, slices.Sorted(maps.Keys(s.store.containers)), &result)
	for _, name := range names {
		c := s.store.containers[name]
		result.Containers = append(result.Containers, listedResource{Name: name, Properties: listedProperties{
			LastModified: c.modified.UTC().Format(http.TimeFormat), Etag: c.etag, LeaseStatus: "unlocked", LeaseState: "available",
		}})
	}
	return xmlResponse(http.StatusOK, result)
}

func listBlobs(r request, c *container) response {
	result := newEnumeration(r)
	result.ContainerName, result.Delimiter = c.name, r.query.Get("delimiter")
	for _, name := range page(r, fold(slices.Sorted(maps.Keys(c.blobs)), result.Prefix, result.Delimiter), &result) {
		if blob := c.blobs[name]; blob != nil {
			result.Blobs = append(result.Blobs, blob.listed(strings.Contains(r.query.Get("include"), "metadata")))
		} else {
			result.Prefixes = append(result.Prefixes, listedPrefix{name})
		}
	}
	return xmlResponse(http.StatusOK, result)
}

func newEnumeration(r request) enumeration {
	return enumeration{ServiceEndpoint: r.endpoint, Prefix: r.query.Get("prefix"), Marker: r.query.Get("marker")}
}

// fold replaces the names that go on after a delimiter by what they have in common up to it.
func fold(names []string, prefix, delimiter string) []string {
	if delimiter == "" {
		return names
	}
	for i, name := range names {
		rest, ok := strings.CutPrefix(name, prefix)
		if head, _, found := strings.Cut(rest, delimiter); ok && found {
			names[i] = prefix + head + delimiter
		}
	}
	return slices.Compact(names)
}

// page returns the names with the prefix from the marker on, as many as fit, and sets the next marker.
func page(r request, names []string, result *enumeration) []string {
	names = slices.DeleteFunc(names, func(name string) bool {
		return !strings.HasPrefix(name, result.Prefix) || name < result.Marker
	})
	size, err := strconv.Atoi(r.query.Get("maxresults"))
	if err != nil || size < 1 || size > maxResults {
		size = maxResults
	}
	if len(names) > size {
		result.NextMarker = names[size]
		names = names[:size]
	}
	return names
}

func (i *item) listed(withMetadata bool) listedResource {
	size := len(i.data)
	result := listedResource{Name: i.Name, Properties: listedProperties{
		CreationTime: i.Created.UTC().Format(http.TimeFormat), LastModified: i.Modified.UTC().Format(http.TimeFormat),
		Etag: strings.Trim(i.ETag, `"`), ContentLength: &size, ContentType: i.Header.Get("Content-Type"),
		ContentEncoding: i.Header.Get("Content-Encoding"), ContentMD5: i.Header.Get("Content-MD5"),
		BlobType: i.Kind, LeaseStatus: "unlocked", LeaseState: "available",
	}}
	if !withMetadata {
		return result
	}
	result.Metadata = metadata{}
	for name := range i.Header {
		if key, ok := strings.CutPrefix(name, "X-Ms-Meta-"); ok {
			result.Metadata[strings.ToLower(key)] = i.Header.Get(name)
		}
	}
	return result
}
