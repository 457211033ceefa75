package arm_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	emulator "github.com/pointsman/pointsman/emulator/arm"
)

// input is what a client asked of the register: to read it, or to write a value over the one it last saw.
type input struct {
	write    bool
	old, new string
}

// output is what it was told. An unknown write may have happened or not.
type output struct {
	value   string
	ok      bool
	unknown bool
}

// register is the sequential model of a table: a read returns the value, and a conditional write that succeeds finds the value that its
// ETag stood for. A refused write changes nothing; it may be refused at any time, because the ETag also changes when an operation
// completes and because a busy table refuses.
func register() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return "0" },
		Step: func(state, in, out any) (bool, any) {
			value, asked, told := state.(string), in.(input), out.(output)
			switch {
			case !asked.write:
				return told.value == value, value
			case told.ok:
				return value == asked.old, asked.new
			case told.unknown && value == asked.old:
				return true, asked.new
			}
			return true, value
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
	}
}

func TestConditionalWritesAreLinearizable(t *testing.T) {
	for _, busy := range []emulator.BusyMode{emulator.BusyRetryable, emulator.BusyQueue, emulator.BusyConflict} {
		t.Run(busy.String(), func(t *testing.T) {
			k := start(t, emulator.Config{Busy: busy})
			seed(t, k, tagged("0"))
			// Some writes are done but reported as failed.
			k.Faults().Script(emulator.Fault{Method: http.MethodPut, Skip: 5, Count: 3, Status: http.StatusBadGateway, Applied: true})
			operations, writes := history(t, k)
			if writes < 2 {
				t.Errorf("only %d writes succeeded", writes)
			}
			if !porcupine.CheckOperations(register(), operations) {
				t.Error("the history is not linearizable")
			}
		})
	}
}

// history lets clients read and write one table at once and returns what they saw and how many writes succeeded.
func history(t *testing.T, k *kit) (operations []porcupine.Operation, writes int) {
	t.Helper()
	const clients, rounds = 4, 12
	var group sync.WaitGroup
	var mu sync.Mutex
	began := time.Now()
	for client := range clients {
		group.Go(func() {
			for round := range rounds {
				var value, etag string
				read := porcupine.Operation{ClientId: client, Input: input{}, Call: int64(time.Since(began))}
				got, err := k.try(t.Context(), http.MethodGet, tableID+version, "")
				if err != nil {
					t.Error(err)
					return
				}
				read.Return = int64(time.Since(began))
				if value, etag, err = valueOf(got.body); err != nil {
					t.Error(err)
					return
				}
				read.Output = output{value: value, ok: true}

				next := fmt.Sprintf("%d-%d", client, round)
				write := porcupine.Operation{ClientId: client, Input: input{write: true, old: value, new: next}, Call: int64(time.Since(began))}
				got, err = k.try(t.Context(), http.MethodPut, tableID+version, tagged(next), "If-Match", etag)
				if err != nil {
					t.Error(err)
					return
				}
				write.Return = int64(time.Since(began))
				write.Output = output{ok: got.status == http.StatusOK, unknown: got.status == http.StatusBadGateway}

				mu.Lock()
				operations = append(operations, read, write)
				if got.status == http.StatusOK {
					writes++
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return operations, writes
}

func valueOf(body string) (value, etag string, err error) {
	var table struct {
		Etag string
		Tags struct{ V string }
	}
	err = json.Unmarshal([]byte(body), &table)
	return table.Tags.V, table.Etag, err
}

// TestModelFindsLostUpdates shows that the check above can fail: without If-Match two clients overwrite each other.
func TestModelFindsLostUpdates(t *testing.T) {
	at := func(client int, from, to int64, in input, out output) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Input: in, Call: from, Output: out, Return: to}
	}
	lost := []porcupine.Operation{
		at(0, 0, 1, input{}, output{value: "0"}),
		at(1, 2, 3, input{}, output{value: "0"}),
		at(0, 4, 5, input{write: true, old: "0", new: "a"}, output{ok: true}),
		at(1, 6, 7, input{write: true, old: "0", new: "b"}, output{ok: true}),
	}
	if porcupine.CheckOperations(register(), lost) {
		t.Error("a lost update passes")
	}
}

// TestOperationsCompleteByThemselves uses the real clock: nobody asks, and the operation completes.
func TestOperationsCompleteByThemselves(t *testing.T) {
	server, err := emulator.Start(emulator.Config{WriteDuration: func() time.Duration { return time.Millisecond }})
	if err != nil {
		t.Fatal(err)
	}
	k := &kit{Server: server, http: http.DefaultClient}
	t.Cleanup(func() {
		if failure := server.Close(); failure != nil {
			t.Error(failure)
		}
	})
	done := make(chan emulator.Event, 1)
	seed(t, k, tagged("0"))
	server.Observe(func(e emulator.Event) {
		if e.Kind == emulator.OperationSucceeded {
			done <- e
		}
	})
	k.do(t, http.MethodPut, tableID+version, tagged("1"))
	select {
	case e := <-done:
		if tag(t, e.After) != "1 Succeeded" {
			t.Errorf("%s", e.After)
		}
	case <-t.Context().Done():
		t.Error("the operation did not complete")
	}
}
