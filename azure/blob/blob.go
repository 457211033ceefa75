// Package blob keeps documents in one container of Azure Blob Storage. A document changes by compare-and-swap only.
//
// A conditional write, in order:
//
//  1. PUT with the condition (If-Match, or If-None-Match: *) and a fresh random id in the metadata
//  2. no answer: the SDK sends the same PUT again; the first may have been applied
//  3. refused after such a repetition: HEAD; if the id there is ours the first one was applied, and its ETag is the answer
//  4. refused at once, or another id: somebody else was first (Conflict)
//
// Without step 3 a writer would take its own write for that of another and decide again from it.
package blob

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/appendblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/pointsman/pointsman/azure/internal/ownbody"
	"github.com/pointsman/pointsman/shared/fault"
)

const (
	// writeID is the metadata key that holds a write's random id. Metadata names are C# identifiers and compare without case.
	writeID = "pointsmanwrite"
	// tryTimeout bounds one try: documents are at most some hundred kB.
	tryTimeout = 10 * time.Second
	// retries and defaultRetryDelay make about 0.2, 0.6 and 1.4 s: the functions' own retry takes over from there.
	retries           = 3
	defaultRetryDelay = 200 * time.Millisecond
	maxRetryDelay     = 2 * time.Second
)

// Config names the container and the right to it: either ConnectionString, or ServiceURL and Credential.
type Config struct {
	ConnectionString string // of the storage account, with its key; never logged
	ServiceURL       string // https://ACCOUNT.blob.core.windows.net
	Credential       azcore.TokenCredential
	Container        string
	Transport        policy.Transporter // nil: the SDK's own
	RetryDelay       time.Duration      // before the second try, doubling; zero: 200 ms
}

// Store is one container. Its methods may be called by several goroutines at once; every error has a fault kind.
type Store struct {
	name      string
	container *container.Client
}

// New checks the configuration; it does not connect.
func New(cfg Config) (*Store, error) {
	byKey, byIdentity := cfg.ConnectionString != "", cfg.ServiceURL != "" || cfg.Credential != nil
	switch {
	case cfg.Container == "":
		return nil, errors.New("blob store: no container is named")
	case byKey == byIdentity:
		return nil, fmt.Errorf("blob container %s: give either a connection string, or a service URL and a credential", cfg.Container)
	case byIdentity && (cfg.ServiceURL == "" || cfg.Credential == nil):
		return nil, fmt.Errorf("blob container %s: a service URL and a credential go together", cfg.Container)
	}
	client, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	return &Store{name: cfg.Container, container: client}, nil
}

func newClient(cfg Config) (*container.Client, error) {
	options := &container.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: cfg.Transport,
		Retry: policy.RetryOptions{
			MaxRetries:    retries,
			TryTimeout:    tryTimeout,
			RetryDelay:    cmp.Or(cfg.RetryDelay, defaultRetryDelay),
			MaxRetryDelay: maxRetryDelay,
		},
		PerRetryPolicies: []policy.Policy{countTries{}, ownbody.Policy{}},
	}}
	if cfg.ConnectionString == "" {
		client, err := container.NewClient(strings.TrimSuffix(cfg.ServiceURL, "/")+"/"+cfg.Container, cfg.Credential, options)
		if err != nil {
			return nil, fmt.Errorf("blob container %s: %w", cfg.Container, err)
		}
		return client, nil
	}
	client, err := container.NewClientFromConnectionString(cfg.ConnectionString, cfg.Container, options)
	if err != nil { // err may quote the string, and with it the key
		return nil, fault.New(fault.Denied, "blob container %s: the connection string is not valid", cfg.Container).
			WithAdvice("copy it again from the storage account's access keys: DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…")
	}
	return client, nil
}

// Ensure creates the container unless it exists. It needs no more than the right to read where it does.
func (s *Store) Ensure(ctx context.Context) error {
	_, err := s.container.GetProperties(ctx, nil)
	if err == nil {
		return nil
	}
	if kind := s.classify("look for the container", "", err); !isNoContainer(err) {
		return kind
	}
	_, err = s.container.Create(ctx, nil)
	if err == nil || bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
		return nil
	}
	return s.classify("create the container", "", err)
}

// Read returns a document and its ETag, or NotFound. If the ETag is still known, nothing is sent and data is nil; an empty known asks for the document in
// any case.
func (s *Store) Read(ctx context.Context, name, known string) (data []byte, etag string, err error) {
	response, err := s.container.NewBlobClient(name).DownloadStream(ctx, unless(known))
	if err != nil {
		return nil, "", s.classify("read", name, err)
	}
	if notModified(response) {
		return nil, known, nil
	}
	body := response.NewRetryReader(ctx, &blob.RetryReaderOptions{MaxRetries: retries})
	data, err = io.ReadAll(body)
	if closeErr := body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, "", s.classify("read", name, err)
	}
	return data, etagOf(response.ETag), nil
}

// Write replaces the document if its ETag is still ifMatch, or creates it if ifMatch is empty and there is none yet, and returns the
// new ETag. Conflict means that somebody else was first, Transient that it may have been written or not: in both cases read again.
func (s *Store) Write(ctx context.Context, name string, data []byte, ifMatch string) (etag string, err error) {
	id := rand.Text()
	counted, tries := withTries(ctx)
	response, err := s.container.NewBlockBlobClient(name).Upload(counted, content(data), &blockblob.UploadOptions{
		Metadata:         map[string]*string{writeID: &id},
		AccessConditions: condition(ifMatch),
	})
	if err == nil {
		return etagOf(response.ETag), nil
	}
	refused := s.classify("write", name, err)
	if !fault.Is(refused, fault.Conflict) || tries.count() < 2 {
		return "", refused
	}
	ours, etag, err := s.wroteBefore(ctx, name, id)
	if err != nil {
		return "", err
	}
	if !ours {
		return "", refused
	}
	return etag, nil
}

// Put replaces the document unconditionally, or creates it.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	_, err := s.container.NewBlockBlobClient(name).Upload(ctx, content(data), nil)
	if err != nil {
		return s.classify("put", name, err)
	}
	return nil
}

// List returns the names that start with prefix, in the order of the service (by name).
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	pager := s.container.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix})
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, s.classify("list", prefix, err)
		}
		for _, item := range page.Segment.BlobItems {
			names = append(names, *item.Name)
		}
	}
	return names, nil
}

// Append adds a line at the end of the document, which is created if there is none, and never rewritten. A line break is added where
// line has none. The line may appear twice if an answer gets lost. A document takes 50,000 lines; Refused after that.
func (s *Store) Append(ctx context.Context, name string, line []byte) error {
	client := s.container.NewAppendBlobClient(name)
	line = append(bytes.TrimSuffix(bytes.Clone(line), []byte("\n")), '\n')
	_, err := client.AppendBlock(ctx, content(line), nil)
	if bloberror.HasCode(err, bloberror.BlobNotFound) {
		if err = s.create(ctx, client, name); err != nil {
			return err
		}
		_, err = client.AppendBlock(ctx, content(line), nil)
	}
	if err != nil {
		return s.classify("append to", name, err)
	}
	return nil
}

// Delete deletes the document, whatever is in it; that it is gone already is fine.
func (s *Store) Delete(ctx context.Context, name string) error {
	_, err := s.container.NewBlobClient(name).Delete(ctx, nil)
	if err != nil && !bloberror.HasCode(err, bloberror.BlobNotFound) {
		return s.classify("delete", name, err)
	}
	return nil
}

// create makes an empty append blob; that another writer was faster is fine.
func (s *Store) create(ctx context.Context, client *appendblob.Client, name string) error {
	_, err := client.Create(ctx, &appendblob.CreateOptions{AccessConditions: condition("")})
	if err == nil {
		return nil
	}
	if created := s.classify("create", name, err); !fault.Is(created, fault.Conflict) {
		return created
	}
	return nil
}

// wroteBefore reports whether the document as it stands is the write with that id.
func (s *Store) wroteBefore(ctx context.Context, name, id string) (ours bool, etag string, err error) {
	properties, err := s.container.NewBlobClient(name).GetProperties(ctx, nil)
	if err != nil {
		return false, "", s.classify("read back", name, err)
	}
	for key, value := range properties.Metadata { // keys come back in the spelling of HTTP headers
		if strings.EqualFold(key, writeID) && value != nil && *value == id {
			return true, etagOf(properties.ETag), nil
		}
	}
	return false, "", nil
}

// unless is If-None-Match with the ETag, if there is one.
func unless(known string) *blob.DownloadStreamOptions {
	if known == "" {
		return nil
	}
	etag := azcore.ETag(known)
	return &blob.DownloadStreamOptions{AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &etag}}}
}

// notModified reports whether the answer is a 304, which the SDK takes for a success without a body.
func notModified(response blob.DownloadStreamResponse) bool {
	return response.ErrorCode != nil && *response.ErrorCode == string(bloberror.ConditionNotMet)
}

// condition is If-Match with the ETag, or "there is none yet".
func condition(ifMatch string) *blob.AccessConditions {
	modified := &blob.ModifiedAccessConditions{}
	if etag := azcore.ETag(ifMatch); ifMatch != "" {
		modified.IfMatch = &etag
	} else {
		anything := azcore.ETagAny
		modified.IfNoneMatch = &anything
	}
	return &blob.AccessConditions{ModifiedAccessConditions: modified}
}

func content(data []byte) io.ReadSeekCloser { return streaming.NopCloser(bytes.NewReader(data)) }

func etagOf(etag *azcore.ETag) string {
	if etag == nil {
		return ""
	}
	return string(*etag)
}
