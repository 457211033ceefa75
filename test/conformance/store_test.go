package conformance_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/azure/blob"
	emulator "github.com/pointsman/pointsman/emulator/blob"
	"github.com/pointsman/pointsman/shared/fault"
)

// TestStore runs the contract of the document store, on which every protocol of Pointsman rests, on the emulator and on Azurite.
func TestStore(t *testing.T) {
	t.Run("emulator", func(t *testing.T) {
		server, err := emulator.Start(emulator.Config{Key: azuriteKey})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
		storeContract(t, server.URL())
	})
	t.Run("azurite", func(t *testing.T) { storeContract(t, azurite(t)) })
}

func storeContract(t *testing.T, url string) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, *blob.Store)
	}{{"compare-and-swap", compareAndSwap}, {"read-unless-known", readUnlessKnown}, {"one-winner", oneWinner}, {"append", appendLines}, {"list", list}} {
		t.Run(test.name, func(t *testing.T) {
			store, err := blob.New(blob.Config{
				ConnectionString: fmt.Sprintf("DefaultEndpointsProtocol=http;AccountName=%s;AccountKey=%s;BlobEndpoint=%s", azuriteAccount, azuriteKey, url),
				Container:        "store-" + test.name,
				RetryDelay:       time.Millisecond,
			})
			if err == nil {
				err = errors.Join(store.Ensure(t.Context()), store.Ensure(t.Context())) // twice: it may be there
			}
			if err != nil {
				t.Fatal(err)
			}
			test.run(t, store)
		})
	}
}

const document = "nvas/d/n.json"

func compareAndSwap(t *testing.T, store *blob.Store) {
	t.Helper()
	if _, _, err := store.Read(t.Context(), document, ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("read a missing one: %v", err)
	}
	conflict := func(what, ifMatch string) {
		t.Helper()
		if _, err := store.Write(t.Context(), document, []byte("x"), ifMatch); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	write := func(text, ifMatch string) string {
		t.Helper()
		etag, err := store.Write(t.Context(), document, []byte(text), ifMatch)
		if err != nil {
			t.Fatal(err)
		}
		return etag
	}
	expect := func(text, etag string) {
		t.Helper()
		data, got, err := store.Read(t.Context(), document, "")
		if err != nil || string(data) != text || got != etag {
			t.Errorf("read %q %s %v, want %q %s", data, got, err, text, etag)
		}
	}
	conflict("replace a missing one", `"0x1"`)
	first := write("one", "")
	conflict("create twice", "")
	second := write("two", first)
	conflict("replace an old one", first)
	expect("two", second)
	third := write("two", second) // the same content is another version: compare-and-swap would not be linearizable otherwise
	conflict("replace one of the same content", second)
	expect("two", third)
	expect("", write("", third))
}

// readUnlessKnown is what the cache of documents rests on: "not modified" is an answer about now.
func readUnlessKnown(t *testing.T, store *blob.Store) {
	t.Helper()
	etag := ""
	for turn := range 5 {
		old := etag
		var err error
		if etag, err = store.Write(t.Context(), document, fmt.Append(nil, turn), old); err != nil {
			t.Fatal(err)
		}
		for _, known := range []string{old, etag, etag, ""} {
			data, got, failed := store.Read(t.Context(), document, known)
			if failed != nil || got != etag || (data == nil) != (known == etag) || data != nil && string(data) != fmt.Sprint(turn) {
				t.Errorf("turn %d, known %q: %q %s, %v", turn, known, data, got, failed)
			}
		}
	}
}

func oneWinner(t *testing.T, store *blob.Store) {
	t.Helper()
	etag := "" // the first round creates
	for round := range 5 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var winners []string
		for i := range 8 {
			wg.Go(func() {
				won, err := store.Write(t.Context(), document, fmt.Appendf(nil, "%d/%d", round, i), etag)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					winners = append(winners, won)
				case !fault.Is(err, fault.Conflict):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("round %d: winners %v", round, winners)
		}
		etag = winners[0]
	}
}

func appendLines(t *testing.T, store *blob.Store) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			if err := store.Append(t.Context(), document, fmt.Appendf(nil, "line-%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	data, _, err := store.Read(t.Context(), document, "")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(data))
	slices.Sort(lines)
	if diff := cmp.Diff([]string{"line-0", "line-1", "line-2", "line-3", "line-4"}, lines); diff != "" {
		t.Error(diff)
	}
}

func list(t *testing.T, store *blob.Store) {
	t.Helper()
	for _, name := range []string{"b/2", "a/1", "b/1 x", "b/ü", "c"} {
		if err := store.Put(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		prefix string
		want   []string
	}{{"b/", []string{"b/1 x", "b/2", "b/ü"}}, {"", []string{"a/1", "b/1 x", "b/2", "b/ü", "c"}}, {"d", nil}} {
		names, err := store.List(t.Context(), test.prefix)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, names); diff != "" {
			t.Errorf("%q: %s", test.prefix, diff)
		}
	}
}
