package invocation_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/pointsman/pointsman/functions/invocation"
)

// TestGate: a closed gate lets what is inside finish, holds what comes, and closing returns after the last answer.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finish := make(chan struct{})
		began := 0
		g := invocation.NewGate(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			began++
			<-finish
			w.WriteHeader(http.StatusTeapot)
		}))
		serve := func(ctx context.Context, code *int) {
			w := httptest.NewRecorder()
			w.Code = 0
			g.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/Ingest", nil))
			*code = w.Code
		}
		var first, second int
		go serve(t.Context(), &first)
		synctest.Wait()

		closed := false
		go func() { g.Close(); closed = true }()
		synctest.Wait()
		ctx, hangUp := context.WithCancel(t.Context())
		go serve(ctx, &second)
		synctest.Wait()
		if began != 1 || closed || second != 0 {
			t.Errorf("while the first call runs: %d calls began, closed %t, the second was answered with %d", began, closed, second)
		}
		close(finish)
		synctest.Wait()
		if !closed || first != http.StatusTeapot || began != 1 {
			t.Errorf("after the first call: closed %t, answer %d, %d calls began", closed, first, began)
		}
		hangUp()
		synctest.Wait()
		g.Close() // once more is harmless
	})
}
