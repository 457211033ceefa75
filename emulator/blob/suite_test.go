package blob_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/appendblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/google/uuid"
)

// suite is what any blob service must do for us. It knows nothing of the emulator: give it a client of Azurite or of an account.
func suite(t *testing.T, client *azblob.Client) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, *container.Client)
	}{
		{"read what was written", readBack},
		{"missing", missing},
		{"compare and swap", compareAndSwap},
		{"create once", createOnce},
		{"conditional read", conditionalRead},
		{"conditional delete", conditionalDelete},
		{"conditional delete of a missing one", conditionalDeleteOfMissing},
		{"ranges", ranges},
		{"range behind the end", rangeBehindTheEnd},
		{"append", appendBlocks},
		{"list", list},
		{"awkward names", awkwardNames},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := "suite-" + uuid.NewString()
			if _, err := client.CreateContainer(t.Context(), name, nil); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if _, err := client.DeleteContainer(context.WithoutCancel(t.Context()), name, nil); err != nil {
					t.Error(err)
				}
			})
			test.run(t, client.ServiceClient().NewContainerClient(name))
		})
	}
	t.Run("containers", func(t *testing.T) { containers(t, client) })
}

// body is a request body.
func body(text string) io.ReadSeekCloser { return streaming.NopCloser(strings.NewReader(text)) }

// put writes a block blob and returns its ETag.
func put(t *testing.T, c *container.Client, name, text string) azcore.ETag {
	t.Helper()
	response, err := c.NewBlockBlobClient(name).Upload(t.Context(), body(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return *response.ETag
}

// putIf writes a block blob under a condition.
func putIf(ctx context.Context, c *container.Client, name, text string, conditions blob.ModifiedAccessConditions) (azcore.ETag, error) {
	response, err := c.NewBlockBlobClient(name).Upload(ctx, body(text), &blockblob.UploadOptions{
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &conditions},
	})
	if err != nil {
		return "", err
	}
	return *response.ETag, nil
}

func get(t *testing.T, c *container.Client, name string) (string, azcore.ETag) {
	t.Helper()
	response, err := c.NewBlobClient(name).DownloadStream(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), *response.ETag
}

// refused checks that err is an answer with the status and code.
func refused(t *testing.T, err error, status int, code bloberror.Code) {
	t.Helper()
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) || answer.StatusCode != status || answer.ErrorCode != string(code) {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

func readBack(t *testing.T, c *container.Client) {
	t.Helper()
	client := c.NewBlockBlobClient("doc")
	_, err := client.Upload(t.Context(), body("hello"), &blockblob.UploadOptions{
		HTTPHeaders: &blob.HTTPHeaders{BlobContentType: new("application/json"), BlobContentEncoding: new("identity")},
		Metadata:    map[string]*string{"Owner": new("me")},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, etag := get(t, c, "doc")
	properties, err := client.GetProperties(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text != "hello" || *properties.ContentLength != 5 || *properties.ETag != etag || *properties.BlobType != blob.BlobTypeBlockBlob {
		t.Errorf("%q %+v", text, properties)
	}
	if *properties.ContentType != "application/json" || *properties.ContentEncoding != "identity" || *properties.Metadata["Owner"] != "me" {
		t.Errorf("%+v", properties)
	}
}

func missing(t *testing.T, c *container.Client) {
	t.Helper()
	_, err := c.NewBlobClient("nothing").DownloadStream(t.Context(), nil)
	refused(t, err, http.StatusNotFound, bloberror.BlobNotFound)
	_, err = c.NewBlobClient("nothing").GetProperties(t.Context(), nil)
	refused(t, err, http.StatusNotFound, bloberror.BlobNotFound)
	_, err = c.NewBlobClient("nothing").Delete(t.Context(), nil)
	refused(t, err, http.StatusNotFound, bloberror.BlobNotFound)
	_, err = c.NewAppendBlobClient("nothing").AppendBlock(t.Context(), body("x"), nil)
	refused(t, err, http.StatusNotFound, bloberror.BlobNotFound)
}

func compareAndSwap(t *testing.T, c *container.Client) {
	t.Helper()
	first := put(t, c, "doc", "one")
	second, err := putIf(t.Context(), c, "doc", "two", blob.ModifiedAccessConditions{IfMatch: &first})
	if err != nil || second == first {
		t.Fatalf("ETag %s after %s: %v", second, first, err)
	}
	_, err = putIf(t.Context(), c, "doc", "three", blob.ModifiedAccessConditions{IfMatch: &first})
	refused(t, err, http.StatusPreconditionFailed, bloberror.ConditionNotMet)
	if text, etag := get(t, c, "doc"); text != "two" || etag != second {
		t.Errorf("%q %s, want two %s", text, etag, second)
	}
	_, err = putIf(t.Context(), c, "other", "x", blob.ModifiedAccessConditions{IfMatch: &first})
	refused(t, err, http.StatusPreconditionFailed, bloberror.ConditionNotMet)
	if same := put(t, c, "doc", "two"); same == second {
		t.Error("writing the same content kept the ETag")
	}
}

func createOnce(t *testing.T, c *container.Client) {
	t.Helper()
	absent := blob.ModifiedAccessConditions{IfNoneMatch: new(azcore.ETagAny)}
	if _, err := putIf(t.Context(), c, "doc", "one", absent); err != nil {
		t.Fatal(err)
	}
	_, err := putIf(t.Context(), c, "doc", "two", absent)
	refused(t, err, http.StatusConflict, bloberror.BlobAlreadyExists)
	_, err = c.NewAppendBlobClient("doc").Create(t.Context(), &appendblob.CreateOptions{
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &absent},
	})
	refused(t, err, http.StatusConflict, bloberror.BlobAlreadyExists)
}

func conditionalRead(t *testing.T, c *container.Client) {
	t.Helper()
	etag := put(t, c, "doc", "one")
	// The client takes 304 for success: it answers with an error code and without a body.
	read := func(conditions blob.ModifiedAccessConditions) (code string, err error) {
		response, err := c.NewBlobClient("doc").DownloadStream(t.Context(), &blob.DownloadStreamOptions{
			AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &conditions},
		})
		if err != nil {
			return "", err
		}
		if response.ErrorCode != nil {
			return *response.ErrorCode, nil
		}
		return "", response.Body.Close()
	}
	if code, err := read(blob.ModifiedAccessConditions{IfMatch: &etag}); code != "" || err != nil {
		t.Errorf("If-Match: %s, %v", code, err)
	}
	if code, err := read(blob.ModifiedAccessConditions{IfNoneMatch: &etag}); code != "ConditionNotMet" || err != nil {
		t.Errorf("If-None-Match of the current ETag: %s, %v", code, err)
	}
	put(t, c, "doc", "two")
	if code, err := read(blob.ModifiedAccessConditions{IfNoneMatch: &etag}); code != "" || err != nil {
		t.Errorf("If-None-Match of an old ETag: %s, %v", code, err)
	}
	_, err := read(blob.ModifiedAccessConditions{IfMatch: &etag})
	refused(t, err, http.StatusPreconditionFailed, bloberror.ConditionNotMet)
}

func conditionalDelete(t *testing.T, c *container.Client) {
	t.Helper()
	old := put(t, c, "doc", "one")
	current := put(t, c, "doc", "two")
	refused(t, removeIf(t.Context(), c, old), http.StatusPreconditionFailed, bloberror.ConditionNotMet)
	if err := removeIf(t.Context(), c, current); err != nil {
		t.Error(err)
	}
	if err := removeIf(t.Context(), c, current); err == nil {
		t.Error("deleted twice")
	}
}

func conditionalDeleteOfMissing(t *testing.T, c *container.Client) {
	t.Helper()
	refused(t, removeIf(t.Context(), c, `"0x1"`), http.StatusNotFound, bloberror.BlobNotFound)
}

// removeIf deletes the blob "doc" if it has the ETag.
func removeIf(ctx context.Context, c *container.Client, etag azcore.ETag) error {
	_, err := c.NewBlobClient("doc").Delete(ctx, &blob.DeleteOptions{
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: &etag}},
	})
	return err
}

func ranges(t *testing.T, c *container.Client) {
	t.Helper()
	put(t, c, "doc", "0123456789")
	for _, test := range []struct {
		offset, count int64
		want          string
	}{{2, 3, "234"}, {7, 0, "789"}, {8, 10, "89"}} {
		response, err := c.NewBlobClient("doc").DownloadStream(t.Context(), &blob.DownloadStreamOptions{
			Range: blob.HTTPRange{Offset: test.offset, Count: test.count},
		})
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil || string(text) != test.want {
			t.Errorf("%d+%d: %q, %v, want %q", test.offset, test.count, text, err, test.want)
		}
	}
}

func rangeBehindTheEnd(t *testing.T, c *container.Client) {
	t.Helper()
	put(t, c, "doc", "0123456789")
	_, err := c.NewBlobClient("doc").DownloadStream(t.Context(), &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: 10}})
	refused(t, err, http.StatusRequestedRangeNotSatisfiable, bloberror.InvalidRange)
}

func appendBlocks(t *testing.T, c *container.Client) {
	t.Helper()
	client := c.NewAppendBlobClient("log")
	if _, err := client.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	at := func(position int64, text string) (appendblob.AppendBlockResponse, error) {
		return client.AppendBlock(t.Context(), body(text), &appendblob.AppendBlockOptions{
			AppendPositionAccessConditions: &appendblob.AppendPositionAccessConditions{AppendPosition: &position},
		})
	}
	first, err := at(0, "one\n")
	if err != nil {
		t.Fatal(err)
	}
	second, err := at(4, "two\n")
	if err != nil || *second.BlobAppendOffset != "4" || *second.BlobCommittedBlockCount != 2 || *second.ETag == *first.ETag {
		t.Errorf("%+v, %v", second, err)
	}
	_, err = at(4, "three\n")
	refused(t, err, http.StatusPreconditionFailed, bloberror.AppendPositionConditionNotMet)
	_, err = client.AppendBlock(t.Context(), body("four\n"), &appendblob.AppendBlockOptions{
		AppendPositionAccessConditions: &appendblob.AppendPositionAccessConditions{MaxSize: new(int64(9))},
	})
	refused(t, err, http.StatusPreconditionFailed, bloberror.MaxBlobSizeConditionNotMet)
	_, err = client.AppendBlock(t.Context(), body("five\n"), &appendblob.AppendBlockOptions{
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: first.ETag}},
	})
	refused(t, err, http.StatusPreconditionFailed, bloberror.ConditionNotMet)
	if text, _ := get(t, c, "log"); text != "one\ntwo\n" {
		t.Errorf("%q", text)
	}
	put(t, c, "doc", "x")
	_, err = c.NewAppendBlobClient("doc").AppendBlock(t.Context(), body("y"), nil)
	refused(t, err, http.StatusConflict, bloberror.InvalidBlobType)
}

func list(t *testing.T, c *container.Client) {
	t.Helper()
	for _, name := range []string{"b/2", "a", "b/1", "c", "b"} {
		put(t, c, name, name)
	}
	var names []string
	pages := 0
	for pager := c.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{MaxResults: new(int32(2))}); pager.More(); pages++ {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, listed := range page.Segment.BlobItems {
			names = append(names, *listed.Name)
			if int(*listed.Properties.ContentLength) != len(*listed.Name) || *listed.Properties.ETag == "" {
				t.Errorf("%s: %+v", *listed.Name, listed.Properties)
			}
		}
	}
	if got := strings.Join(names, " "); got != "a b b/1 b/2 c" || pages != 3 {
		t.Errorf("%q in %d pages", got, pages)
	}
	names = nil
	pager := c.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{Prefix: new("b")})
	for pager.More() {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, listed := range page.Segment.BlobItems {
			names = append(names, *listed.Name)
		}
		for _, prefix := range page.Segment.BlobPrefixes {
			names = append(names, *prefix.Name)
		}
	}
	if got := strings.Join(names, " "); got != "b b/" {
		t.Errorf("%q", got)
	}
}

func awkwardNames(t *testing.T, c *container.Client) {
	t.Helper()
	for _, name := range []string{"a b", "a%20b", "ü/ö", "x?y=z&w", "#", "a..b/.c", "+"} {
		put(t, c, name, "content of "+name)
		if text, _ := get(t, c, name); text != "content of "+name {
			t.Errorf("%q holds %q", name, text)
		}
	}
}

func containers(t *testing.T, client *azblob.Client) {
	t.Helper()
	name := "suite-" + uuid.NewString()
	if _, err := client.CreateContainer(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	_, err := client.CreateContainer(t.Context(), name, nil)
	refused(t, err, http.StatusConflict, bloberror.ContainerAlreadyExists)
	pager := client.NewListContainersPager(&azblob.ListContainersOptions{Prefix: &name})
	page, err := pager.NextPage(t.Context())
	if err != nil || len(page.ContainerItems) != 1 || *page.ContainerItems[0].Name != name {
		t.Errorf("%+v, %v", page.ContainerItems, err)
	}
	if _, err = client.DeleteContainer(t.Context(), name, nil); err != nil {
		t.Error(err)
	}
	_, err = client.UploadBuffer(t.Context(), name, "doc", []byte("x"), nil)
	refused(t, err, http.StatusNotFound, bloberror.ContainerNotFound)
	_, err = client.CreateContainer(t.Context(), "Bad_Name", nil)
	refused(t, err, http.StatusBadRequest, bloberror.InvalidResourceName)
}
