package lasting_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pointsman/pointsman/agent/lasting"
)

func expect(t *testing.T, path, text string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != text {
		t.Errorf("holds %q (%v), want %q", got, err, text)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v (%v)", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
}

func TestReplaceAndCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"one", "two"} {
		if err := lasting.Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		expect(t, path, text)
	}
	if err := lasting.Create(path, []byte("three")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	expect(t, path, "two")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := lasting.Create(path, []byte("four")); err != nil {
		t.Fatal(err)
	}
	expect(t, path, "four")
	if err := lasting.Create(filepath.Join(path, "below a file"), nil); err == nil {
		t.Error("written into a file")
	}
}

// What root writes into another's directory belongs to that one.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "file")
	if err := lasting.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Uid != 65534 || s.Gid != 65534 {
		t.Errorf("belongs to %+v", info.Sys())
	}
}
