package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"
)

// The parts of a CycloneDX 1.6 document that are used here. Source: ECMA-424.
type document struct {
	BOMFormat    string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version,omitempty"`
	PURL       string     `json:"purl"`
	Properties []property `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// SBOM writes what a Go binary says that it is made of: its modules with the versions and sums that were linked, and the Go release whose
// standard library it holds. That is more exact than go.mod, which also names what tests and other platforms need.
func SBOM(w io.Writer, binary string, at time.Time) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("build information of %s: %w", binary, err)
	}
	main := component{
		Type: "application", Name: filepath.Base(binary), Version: info.Main.Version, PURL: purl(info.Main.Path, info.Main.Version),
		Properties: settings(info.Settings),
	}
	main.Ref = main.PURL + "#" + strings.TrimPrefix(info.Path, info.Main.Path+"/")
	doc := document{BOMFormat: "CycloneDX", SpecVersion: "1.6", Version: 1, Metadata: metadata{at.Format(time.RFC3339), main}}
	std := library(&debug.Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")})
	doc.Components = append(doc.Components, std)
	for _, m := range info.Deps { // in the order of their paths, as the linker writes them
		doc.Components = append(doc.Components, library(m))
	}
	all := dependency{Ref: main.Ref}
	for _, c := range doc.Components {
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	doc.Dependencies = []dependency{all}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err = e.Encode(doc); err != nil {
		return fmt.Errorf("write the SBOM: %w", err)
	}
	return nil
}

func library(m *debug.Module) component {
	if m.Replace != nil {
		m = m.Replace
	}
	c := component{Type: "library", Name: m.Path, Version: m.Version, PURL: purl(m.Path, m.Version)}
	c.Ref = c.PURL
	if m.Sum != "" {
		c.Properties = []property{{"golang:sum", m.Sum}}
	}
	return c
}

// purl is the package URL of a module. Source: the type "golang" of the package-url specification.
func purl(modulePath, version string) string {
	s := "pkg:golang/" + modulePath
	if version != "" {
		s += "@" + url.PathEscape(version)
	}
	return s
}

// settings are those of the build that change what the binary is.
func settings(all []debug.BuildSetting) []property {
	var out []property
	for _, s := range all {
		switch s.Key {
		case "GOOS", "GOARCH", "GOAMD64", "GOARM64", "CGO_ENABLED", "-trimpath", "-ldflags", "vcs.revision", "vcs.time", "vcs.modified":
			out = append(out, property{"golang:build:" + s.Key, s.Value})
		}
	}
	return out
}
