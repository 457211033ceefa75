package main

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

var release = time.Date(2026, 5, 4, 3, 2, 2, 0, time.UTC)

// binaryFor is the smallest file that looks like a program.
func binaryFor(t *testing.T, machine elf.Machine, interpreter bool) []byte {
	t.Helper()
	h := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Phentsize: 56, Phoff: 64,
	}
	if interpreter {
		h.Phnum = 1
	}
	var b bytes.Buffer
	for _, part := range []any{h, elf.Prog64{Type: uint32(elf.PT_INTERP)}} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func appRoot(t *testing.T) fstest.MapFS {
	t.Helper()
	return fstest.MapFS{
		"host.json":             {Data: []byte(`{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"pointsman-handler"}}}`), Mode: 0o600},
		"pointsman-handler":     {Data: binaryFor(t, elf.EM_X86_64, false), Mode: 0o700, ModTime: time.Now()},
		"Sweep/function.json":   {Data: []byte(`{}`), Mode: 0o755},
		"Ingest/function.json":  {Data: []byte(`{}`), ModTime: time.Now().Add(-time.Hour)},
		"Ingest/with/more.json": {Data: []byte(`{}`)},
	}
}

func TestZip(t *testing.T) {
	var first, second bytes.Buffer
	for _, w := range []io.Writer{&first, &second} {
		if err := Zip(w, appRoot(t), release); err != nil { // other times of change each time
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two zips of one app root differ")
	}
	z, err := zip.NewReader(bytes.NewReader(first.Bytes()), int64(first.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
		want := fs.FileMode(0o644)
		if f.Name == "pointsman-handler" {
			want = 0o755
		}
		if f.Mode() != want {
			t.Errorf("%s has mode %v, want %v", f.Name, f.Mode(), want)
		}
		if !f.Modified.Equal(release) {
			t.Errorf("%s is dated %v, want %v", f.Name, f.Modified, release)
		}
	}
	want := []string{"Ingest/function.json", "Ingest/with/more.json", "Sweep/function.json", "host.json", "pointsman-handler"}
	if !slices.Equal(names, want) {
		t.Errorf("entries are %q, want %q", names, want)
	}
}

func TestZipRefusesWhatTheHostCannotStart(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		spoil      func(fstest.MapFS)
	}{
		{"no host.json", "host.json", func(m fstest.MapFS) { delete(m, "host.json") }},
		{"host.json is no JSON", "host.json", func(m fstest.MapFS) { m["host.json"].Data = []byte("{") }},
		{"no handler", "pointsman-handler", func(m fstest.MapFS) { delete(m, "pointsman-handler") }},
		{"handler is a script", "no Linux binary", func(m fstest.MapFS) { m["pointsman-handler"].Data = []byte("#!/bin/sh\n") }},
		{"handler for ARM", "x86-64", func(m fstest.MapFS) { m["pointsman-handler"].Data = binaryFor(t, elf.EM_AARCH64, false) }},
		{"handler needs libc", "CGO_ENABLED=0", func(m fstest.MapFS) { m["pointsman-handler"].Data = binaryFor(t, elf.EM_X86_64, true) }},
		{"no function", "function.json", func(m fstest.MapFS) { delete(m, "Ingest/function.json"); delete(m, "Sweep/function.json") }},
		{"a link", "no regular file", func(m fstest.MapFS) { m["link"] = &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte("host.json")} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			app := appRoot(t)
			tt.spoil(app)
			if err := Zip(io.Discard, app, release); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAFailedOutputIsNotLeftBehind(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.zip")
	if err := run([]string{"zip", "-epoch", "1", "-o", out, dir}, io.Discard); err == nil {
		t.Fatal("an empty app root was accepted")
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("the output is there")
	}
}

func TestSBOMNamesWhatIsLinked(t *testing.T) {
	self, err := os.Executable() // a Go binary with modules, like every other
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err = SBOM(&b, self, release); err != nil {
		t.Fatal(err)
	}
	var doc document
	if err = json.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.BOMFormat != "CycloneDX" || doc.Metadata.Timestamp != "2026-05-04T03:02:02Z" {
		t.Errorf("head is %q at %q", doc.BOMFormat, doc.Metadata.Timestamp)
	}
	if len(doc.Components) == 0 || doc.Components[0].Name != "std" || !strings.HasPrefix(doc.Components[0].PURL, "pkg:golang/std@1.") {
		t.Errorf("components are %+v, want the standard library first", doc.Components)
	}
	if len(doc.Dependencies) != 1 || len(doc.Dependencies[0].DependsOn) != len(doc.Components) {
		t.Errorf("dependencies are %+v", doc.Dependencies)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"zip"}, {"zip", "-epoch", "1", "dir"}, {"zip", "-o", "x", "dir"}, {"tar", "-epoch", "1", "-o", "/dev/null", "dir"}} {
		if err := run(args, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
