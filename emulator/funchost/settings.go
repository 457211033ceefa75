package funchost

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// settings are the app's settings, which for the host and for the handler are simply the environment.
type settings map[string]string

// newSettings merges, the first to name a key winning: the environment, the app settings, local.settings.json
// (contract A3).
func newSettings(root string, environment []string, app map[string]string) (settings, error) {
	local, err := localSettings(root)
	if err != nil {
		return nil, err
	}
	s := settings{}
	maps.Copy(s, local)
	maps.Copy(s, app)
	for _, kv := range environment {
		if k, v, ok := strings.Cut(kv, "="); ok {
			s[k] = v
		}
	}
	return s, nil
}

func localSettings(root string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(root, "local.settings.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("local.settings.json: %w", err)
	}
	var file struct {
		IsEncrypted bool
		Values      map[string]string
	}
	if err = json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("local.settings.json: %w", err)
	}
	if file.IsEncrypted {
		return nil, errors.New("local.settings.json: IsEncrypted is not supported")
	}
	return file.Values, nil
}

// get looks a setting up as .NET configuration does: exactly, then ignoring case, with ":" and "__" alike.
func (s settings) get(name string) (string, bool) {
	name = strings.ReplaceAll(name, ":", "__")
	if v, ok := s[name]; ok {
		return v, true
	}
	for _, k := range slices.Sorted(maps.Keys(s)) {
		if strings.EqualFold(strings.ReplaceAll(k, ":", "__"), name) {
			return s[k], true
		}
	}
	return "", false
}

// expand replaces every %NAME% by its setting; one that is not set is an error, as in a binding.
func (s settings) expand(text string) (string, error) {
	var missing error
	out := percentName().ReplaceAllStringFunc(text, func(m string) string {
		v, ok := s.get(strings.Trim(m, "%"))
		if !ok {
			missing = fmt.Errorf("'%s' does not resolve to a value", m)
		}
		return v
	})
	return out, missing
}

// expandKnown replaces every %NAME% that is set and leaves the others, as Environment.ExpandEnvironmentVariables.
func (s settings) expandKnown(text string) string {
	return percentName().ReplaceAllStringFunc(text, func(m string) string {
		if v, ok := s.get(strings.Trim(m, "%")); ok {
			return v
		}
		return m
	})
}

func percentName() *regexp.Regexp { return regexp.MustCompile(`%[^%]+%`) }

// environ is the settings as a process environment, sorted.
func (s settings) environ() []string {
	env := make([]string, 0, len(s))
	for _, k := range slices.Sorted(maps.Keys(s)) {
		env = append(env, k+"="+s[k])
	}
	return env
}
