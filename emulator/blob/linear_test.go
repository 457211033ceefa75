package blob_test

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/anishathalye/porcupine"

	emulator "github.com/pointsman/pointsman/emulator/blob"
)

// version is a value of the register: what is written, and the ETag that a blob gets by it.
type version struct {
	text string
	etag azcore.ETag
}

// input asks to read the blob, or to write text over the version with the ETag.
type input struct {
	write bool
	match azcore.ETag
	text  string
}

// output is what the client was told: the version that it read or made, or that the condition was not met, or nothing that says
// whether the write happened.
type output struct {
	version
	refused, unknown bool
}

// register is the sequential model of a blob, stricter than a table's: only a write changes the ETag, so a refusal must have a reason.
func register(initial version) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return initial },
		Step: func(state, in, out any) (bool, any) {
			current, asked, told := state.(version), in.(input), out.(output)
			switch {
			case !asked.write:
				return told.version == current, current
			case told.refused:
				return asked.match != current.etag, current
			case told.unknown:
				return true, current // the script below lets these take no effect
			}
			return asked.match == current.etag, told.version
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
	}
}

func TestConditionalWritesAreLinearizable(t *testing.T) {
	k := start(t, emulator.Config{Directory: t.TempDir()})
	c := newContainer(t, k)
	initial := version{"0", put(t, c, "doc", "0")}
	k.Faults().Script(emulator.Fault{Method: http.MethodPut, Skip: 5, Count: 3, Status: http.StatusServiceUnavailable})

	const clients, rounds = 4, 12
	var (
		group      sync.WaitGroup
		mu         sync.Mutex
		operations []porcupine.Operation
		writes     int
	)
	began := time.Now()
	for client := range clients {
		group.Go(func() {
			for round := range rounds {
				read := porcupine.Operation{ClientId: client, Input: input{}, Call: int64(time.Since(began))}
				seen, err := download(t, c)
				if err != nil {
					t.Error(err)
					return
				}
				read.Output, read.Return = output{version: seen}, int64(time.Since(began))

				text := fmt.Sprintf("%d-%d", client, round)
				write := porcupine.Operation{ClientId: client, Input: input{true, seen.etag, text}, Call: int64(time.Since(began))}
				etag, err := putIf(t.Context(), c, "doc", text, blob.ModifiedAccessConditions{IfMatch: &seen.etag})
				write.Return = int64(time.Since(began))
				write.Output = output{
					version: version{text, etag},
					refused: bloberror.HasCode(err, bloberror.ConditionNotMet), unknown: bloberror.HasCode(err, bloberror.ServerBusy),
				}
				mu.Lock()
				operations = append(operations, read, write)
				if err == nil {
					writes++
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if writes < 2 {
		t.Errorf("only %d writes succeeded", writes)
	}
	if !porcupine.CheckOperations(register(initial), operations) {
		t.Error("the history is not linearizable")
	}
}

func download(t *testing.T, c *container.Client) (version, error) {
	t.Helper()
	response, err := c.NewBlobClient("doc").DownloadStream(t.Context(), nil)
	if err != nil {
		return version{}, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return version{string(text), *response.ETag}, err
}
