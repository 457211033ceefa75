package main

import (
	"archive/zip"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"
)

// Modes in the zip. The Functions host starts the handler as it finds it: without the mode bits it fails.
const (
	modeFile   fs.FileMode = 0o644
	modeBinary fs.FileMode = 0o755
)

// Zip writes the package of the function app whose root is app. Entries are in the order of their names and dated at; only the handler may be
// executed. It refuses an app root that the host could not start. Source: functions-host contract A1, A2, B1.
func Zip(w io.Writer, app fs.FS, at time.Time) error {
	handler, err := check(app)
	if err != nil {
		return err
	}
	z := zip.NewWriter(w)
	// WalkDir goes in lexical order.
	err = fs.WalkDir(app, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no regular file", name)
		}
		return add(z, app, name, name == handler, at)
	})
	if err != nil {
		return fmt.Errorf("app root: %w", err)
	}
	if err = z.Close(); err != nil {
		return fmt.Errorf("zip: %w", err)
	}
	return nil
}

func add(z *zip.Writer, app fs.FS, name string, executable bool, at time.Time) error {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: at}
	h.SetMode(modeFile)
	if executable {
		h.SetMode(modeBinary)
	}
	w, err := z.CreateHeader(h)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	f, err := app.Open(name)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	_, err = io.Copy(w, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// check returns the handler's name after a look at what the host needs.
func check(app fs.FS) (handler string, err error) {
	text, err := fs.ReadFile(app, "host.json")
	if err != nil {
		return "", fmt.Errorf("app root: %w", err)
	}
	var host struct {
		CustomHandler struct {
			Description struct{ DefaultExecutablePath string }
		}
	}
	if err = json.Unmarshal(text, &host); err != nil {
		return "", fmt.Errorf("host.json: %w", err)
	}
	handler = path.Clean(host.CustomHandler.Description.DefaultExecutablePath)
	if err = runsInAzure(app, handler); err != nil {
		return "", err
	}
	functions, err := fs.Glob(app, "*/function.json")
	if err != nil || len(functions) == 0 {
		return "", errors.Join(err, errors.New("no folder of the app root holds a function.json"))
	}
	return handler, nil
}

// runsInAzure checks that the handler is for the host's platform: Linux on x86-64, without an interpreter (statically linked).
func runsInAzure(app fs.FS, handler string) error {
	f, err := app.Open(handler)
	if err != nil {
		return fmt.Errorf("the handler that host.json names: %w", err)
	}
	defer func() { _ = f.Close() }()
	at, ok := f.(io.ReaderAt)
	if !ok {
		return fmt.Errorf("handler %s: cannot be read in part", handler)
	}
	e, err := elf.NewFile(at)
	if err != nil {
		return fmt.Errorf("handler %s is no Linux binary: %w", handler, err)
	}
	if e.Machine != elf.EM_X86_64 {
		return fmt.Errorf("handler %s is for %s: the host needs x86-64", handler, e.Machine)
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("handler %s is linked dynamically: build it with CGO_ENABLED=0", handler)
		}
	}
	return nil
}
