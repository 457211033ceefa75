package docs_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/test/jsonschema"
	"github.com/pointsman/pointsman/test/system"
)

// field is what the schema says of one field.
type field struct {
	needed bool
	value  any // the default
}

// fields adds the fields below s to out, by their path.
func fields(root, s jsonschema.Schema, path string, out map[string]field) {
	for name, p := range s.Properties {
		at := strings.TrimPrefix(path+"."+name, ".")
		value := p.Default
		p = resolve(root, p)
		if value == nil {
			value = p.Default
		}
		out[at] = field{slices.Contains(s.Required, name), value}
		if p.Items != nil {
			fields(root, resolve(root, *p.Items), at+"[]", out)
		}
		fields(root, p, at, out)
	}
}

func resolve(root, s jsonschema.Schema) jsonschema.Schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		return root.Defs[name]
	}
	return s
}

// TestConfigurationReferenceIsTheSchema: the table of fields in docs/configuration.md has every field of the domain file's schema, itself or the one that it is a part of, with the
// default that the schema has, and no others.
func TestConfigurationReferenceIsTheSchema(t *testing.T) {
	root := jsonschema.Read(t, filepath.Join(system.Root(), "docs", "schema", "domain.schema.json"))
	known := map[string]field{}
	fields(root, root, "", known)
	_, section, found := strings.Cut(read(t, "docs/configuration.md"), "\n## Fields\n")
	if !found {
		t.Fatal("docs/configuration.md has no table of fields")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\x60[^|]+) \| ([^|]*) \|`).FindAllStringSubmatch(section, -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			rows[strings.Trim(name, "`")] = m[2]
		}
	}
	for path, f := range known {
		row, has := rows[path]
		switch {
		case !has && !explained(rows, path):
			t.Errorf("docs/configuration.md has no row for %s", path)
		case has && f.needed && row != "needed":
			t.Errorf("%s is needed, docs/configuration.md says %q", path, row)
		case has && f.value != nil && row != fmt.Sprintf("`%v`", f.value):
			t.Errorf("the default of %s is %v, docs/configuration.md says %q", path, f.value, row)
		}
	}
	for path := range rows {
		if _, has := known[path]; !has {
			t.Errorf("docs/configuration.md has a row for %s, which the schema has not", path)
		}
	}
	if len(known) < 50 || len(rows) < 40 {
		t.Errorf("only %d fields and %d rows were found", len(known), len(rows))
	}
}

// explained reports whether the row of a field that holds this one stands for it, or the rows of its own fields do.
func explained(rows map[string]string, path string) bool {
	for row := range rows {
		if strings.HasPrefix(path, row+".") || strings.HasPrefix(path, row+"[]") || strings.HasPrefix(row, path+".") || strings.HasPrefix(row, path+"[]") {
			return true
		}
	}
	return false
}
