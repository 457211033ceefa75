package infra_test

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// lexeme is one word of a Bicep file. A string is several: its text, and the tokens of its interpolations.
type lexeme struct {
	kind kind
	text string // a string without its quotes and escapes, interpolations as ${}
	line int
}

type kind uint8

const (
	word kind = iota + 1 // identifier, keyword or number
	text
	mark // one character of punctuation, "=>" included as two
	newline
)

// tokenize reads a Bicep file: words, single- and triple-quoted strings, comments, punctuation. Source: "Bicep file structure and syntax".
// An interpolation's tokens follow the string's own token, in parentheses.
func tokenize(src string) ([]lexeme, error) {
	s := &scanner{src: []rune(src), line: 1}
	for s.pos < len(s.src) {
		if err := s.next(); err != nil {
			return nil, fmt.Errorf("line %d: %w", s.line, err)
		}
	}
	return s.out, balanced(s.out)
}

type scanner struct {
	src  []rune
	pos  int
	line int
	out  []lexeme
}

func (s *scanner) has(prefix string) bool {
	return strings.HasPrefix(string(s.src[s.pos:min(len(s.src), s.pos+len(prefix))]), prefix)
}

func (s *scanner) add(k kind, text string) {
	s.out = append(s.out, lexeme{k, text, s.line})
}

func (s *scanner) next() error {
	r := s.src[s.pos]
	switch {
	case r == '\n':
		s.add(newline, "\n")
		s.line++
		s.pos++
	case unicode.IsSpace(r):
		s.pos++
	case s.has("//"):
		for s.pos < len(s.src) && s.src[s.pos] != '\n' {
			s.pos++
		}
	case s.has("'''"):
		return errors.New("a multi-line string: this reader has none")
	case r == '\'':
		return s.quoted()
	case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_':
		start := s.pos
		for s.pos < len(s.src) && (unicode.IsLetter(s.src[s.pos]) || unicode.IsDigit(s.src[s.pos]) || s.src[s.pos] == '_') {
			s.pos++
		}
		s.add(word, string(s.src[start:s.pos]))
	case strings.ContainsRune("{}[]()=:,.?!@<>+-*/%&|", r):
		s.add(mark, string(r))
		s.pos++
	default:
		return fmt.Errorf("unexpected %q", r)
	}
	return nil
}

// quoted reads a string from its opening quote.
func (s *scanner) quoted() error {
	at := len(s.out)
	s.add(text, "")
	var b strings.Builder
	for s.pos++; s.pos < len(s.src); {
		switch r := s.src[s.pos]; {
		case r == '\'':
			s.pos++
			s.out[at].text = b.String()
			return nil
		case r == '\n':
			return errors.New("a string does not end")
		case r == '\\':
			if s.pos+1 == len(s.src) || !strings.ContainsRune(`\'nrtu$`, s.src[s.pos+1]) {
				return errors.New("an unknown escape in a string")
			}
			b.WriteRune(s.src[s.pos+1])
			s.pos += 2
		case s.has("${"):
			b.WriteString("${}")
			if err := s.interpolation(); err != nil {
				return err
			}
		default:
			b.WriteRune(r)
			s.pos++
		}
	}
	return errors.New("a string does not end")
}

func (s *scanner) interpolation() error {
	s.pos += len("${")
	s.add(mark, "(")
	for depth := 0; s.pos < len(s.src); {
		switch s.src[s.pos] {
		case '{':
			depth++
		case '}':
			if depth == 0 {
				s.add(mark, ")")
				s.pos++
				return nil
			}
			depth--
		}
		if err := s.next(); err != nil {
			return err
		}
	}
	return errors.New("an interpolation does not end")
}

// balanced checks that every bracket is closed by its like.
func balanced(tokens []lexeme) error {
	closing := map[string]string{"{": "}", "[": "]", "(": ")"}
	var open []lexeme
	for _, t := range tokens {
		if t.kind != mark {
			continue
		}
		switch t.text {
		case "{", "[", "(":
			open = append(open, t)
		case "}", "]", ")":
			if len(open) == 0 || closing[open[len(open)-1].text] != t.text {
				return fmt.Errorf("line %d: %s closes nothing", t.line, t.text)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		return fmt.Errorf("line %d: %s is not closed", open[len(open)-1].line, open[len(open)-1].text)
	}
	return nil
}

// declaration is one statement of a file.
type declaration struct {
	keyword string // param, var, resource, module, output
	name    string
	about   string   // the type of a resource with its version, the path of a module, the type of a param or output
	rest    []lexeme // from there to the end of the statement
	line    int
}

// file is a Bicep file.
type file struct {
	path   string
	tokens []lexeme
	decls  []declaration
}

// keywords that begin a statement.
func keywords() []string {
	return []string{"param", "var", "resource", "module", "output", "targetScope"}
}

func read(name string) (*file, error) {
	src, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	f := &file{path: name}
	if f.tokens, err = tokenize(string(src)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, f.split()
}

// split finds the statements: they begin at the start of a line outside all brackets.
func (f *file) split() error {
	depth := 0
	for i, t := range f.tokens {
		if t.kind == mark {
			depth += strings.Count("{[(", t.text) - strings.Count("}])", t.text)
		}
		starts := depth == 0 && t.kind == word && (i == 0 || f.tokens[i-1].kind == newline)
		if !starts {
			continue
		}
		if !slices.Contains(keywords(), t.text) {
			return fmt.Errorf("%s:%d: unknown statement %s", f.path, t.line, t.text)
		}
		if t.text == "targetScope" {
			continue
		}
		d := declaration{keyword: t.text, name: f.tokens[i+1].text, about: f.tokens[i+2].text, line: t.line}
		d.rest = statement(f.tokens[i+2:])
		if d.keyword != "var" {
			d.rest = d.rest[1:]
		}
		f.decls = append(f.decls, d)
	}
	return nil
}

// statement cuts at the first line break outside all brackets.
func statement(tokens []lexeme) []lexeme {
	depth := 0
	for i, t := range tokens {
		switch {
		case t.kind == mark:
			depth += strings.Count("{[(", t.text) - strings.Count("}])", t.text)
		case t.kind == newline && depth == 0:
			return tokens[:i]
		}
	}
	return tokens
}

// find returns the declaration of that kind and name.
func (f *file) find(t *testing.T, keyword, name string) declaration {
	t.Helper()
	for _, d := range f.decls {
		if d.keyword == keyword && d.name == name {
			return d
		}
	}
	t.Fatalf("%s has no %s %s", f.path, keyword, name)
	return declaration{}
}

// fields returns the properties of the first object in tokens, each with the tokens of its value.
func fields(tokens []lexeme) map[string][]lexeme {
	start := slices.IndexFunc(tokens, func(t lexeme) bool { return t.kind == mark && t.text == "{" })
	out := map[string][]lexeme{}
	if start < 0 {
		return out
	}
	depth, key := 0, ""
	for i := start; i < len(tokens); i++ {
		t := tokens[i]
		if t.kind == mark {
			depth += strings.Count("{[(", t.text) - strings.Count("}])", t.text)
			if depth == 0 {
				break
			}
		}
		begins := depth == 1 && (t.kind == word || t.kind == text) && i+1 < len(tokens) && tokens[i+1].text == ":" &&
			(tokens[i-1].kind == newline || tokens[i-1].text == "{" || tokens[i-1].text == ",")
		switch {
		case begins:
			key = t.text
			out[key] = nil
			i++ // the colon
		case key != "" && (t.kind != newline || depth > 1):
			out[key] = append(out[key], t)
		}
	}
	return out
}

// value is a literal: the text of the only token.
func value(tokens []lexeme) string {
	if len(tokens) != 1 {
		return ""
	}
	return tokens[0].text
}

// all reads every Bicep file, with its path below infra/.
func all(t *testing.T) map[string]*file {
	t.Helper()
	out := map[string]*file{}
	root := filepath.Join("..", "..", "infra")
	for _, pattern := range []string{"*.bicep", "modules/*.bicep"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			f, readErr := read(p)
			if readErr != nil {
				t.Fatal(readErr)
			}
			out[path.Join(path.Dir(pattern), filepath.Base(p))] = f
		}
	}
	if len(out) < 5 {
		t.Fatalf("only %d files found", len(out))
	}
	return out
}

func TestTokenizeRefuses(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"open brace", "var a = {\n", "is not closed"},
		{"wrong bracket", "var a = [}\n", "closes nothing"},
		{"open string", "var a = 'x\nvar b = 1\n", "does not end"},
		{"open interpolation", "var a = '${b'\n", "does not end"},
		{"escape", `var a = '\q'` + "\n", "escape"},
		{"character", "var a = #\n", "unexpected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tokenize(tt.src); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestTokenizeReads(t *testing.T) {
	tokens, err := tokenize("var a = 'x-${b.c}\\'' // d\n")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tok := range tokens {
		got = append(got, tok.text)
	}
	want := []string{"var", "a", "=", "x-${}'", "(", "b", ".", "c", ")", "\n"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// version is a stable API version.
func version() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z.]+(/[A-Za-z]+)+@20\d\d-\d\d-\d\d$`)
}
