// Package located reads YAML strictly and reports every problem at once, each with file, line, column, what was found and
// what would be right. It is the only package of the core that imports a library: nothing in the standard library
// reads YAML (docs/adr/0003).
package located

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Problem is one thing wrong in a file. Line and Column count from 1; 0 means the file as a whole.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Field  string `json:"field,omitempty"` // "targets[0].limit"
	Text   string `json:"text"`            // what was found and what would be right
}

// String returns "file:line:column: field: text".
func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	if p.Field != "" {
		s += ": " + p.Field
	}
	return s + ": " + p.Text
}

// Problems is all that is wrong in a file, in the order of the file. It is an error when it is not empty.
type Problems []Problem

// Error returns one line per problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// report collects problems for all nodes of one file.
type report struct {
	file     string
	problems Problems
}

// Node is a value in the file. Its readers report what is wrong and return a zero value, so that reading goes on.
type Node struct {
	report *report
	node   ast.Node
	at     token.Position
	field  string
}

// MaxSize is the longest file that Parse reads, in bytes: room for a domain of more than 1,000 NVAs and targets.
const MaxSize = 1 << 20

// maxDepth bounds nesting: the parser is recursive, and slower than linear in the depth.
const maxDepth = 32

// Parse reads one YAML document. Problems of the syntax come back at once; those of the content through Problems at the end.
func Parse(file string, text []byte) (Node, Problems) {
	if len(text) > MaxSize {
		return Node{}, Problems{{File: file, Text: fmt.Sprintf("the file has %d bytes: want at most %d", len(text), MaxSize)}}
	}
	tokens := lexer.Tokenize(string(text))
	if deep := tooDeep(tokens); deep != nil {
		return Node{}, Problems{{File: file, Line: deep.Line, Column: deep.Column, Text: fmt.Sprintf("nested too deeply here: want at most %d levels", maxDepth)}}
	}
	f, err := parser.Parse(tokens, 0)
	if err != nil {
		return Node{}, Problems{syntaxProblem(file, err)}
	}
	docs, directive := documents(f)
	switch {
	case directive != nil:
		return Node{}, Problems{{File: file, Line: directive.Line, Column: directive.Column, Text: "a YAML directive: leave the line out"}}
	case len(docs) == 0 || len(docs) == 1 && docs[0].Type() == ast.NullType:
		return Node{}, Problems{{File: file, Text: "the file is empty"}}
	case len(docs) > 1:
		at := position(docs[1])
		return Node{}, Problems{{File: file, Line: at.Line, Column: at.Column, Text: "a second document begins here: want one per file"}}
	}
	return Node{report: &report{file: file}, node: docs[0], at: position(docs[0])}, nil
}

// documents returns the documents that say something, and where a directive stands.
func documents(f *ast.File) (docs []ast.Node, directive *token.Position) {
	for _, d := range f.Docs {
		switch {
		case d.Body == nil || d.Body.Type() == ast.CommentType:
		case d.Body.Type() == ast.DirectiveType:
			at := position(d.Body)
			directive = &at
		default:
			docs = append(docs, d.Body)
		}
	}
	return docs, directive
}

// tooDeep returns where nesting passes maxDepth: brackets within brackets, or a chain of marks ("- - - x") on one line.
// Nesting by indentation costs a line per level and is bounded by MaxSize.
func tooDeep(tokens token.Tokens) *token.Position {
	brackets, marks, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			marks, line = 0, t.Position.Line
		}
		switch t.Type { //nolint:exhaustive // every other token opens nothing
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			marks++
		default:
			marks = 0
		}
		if brackets > maxDepth || marks > maxDepth {
			return t.Position
		}
	}
	return nil
}

// syntaxProblem takes the position out of the parser's error, which prints as "[line:column] message".
func syntaxProblem(file string, err error) Problem {
	text, _, _ := strings.Cut(err.Error(), "\n")
	p := Problem{File: file, Text: text}
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if pos, message, closed := strings.Cut(rest, "] "); closed {
			line, column, _ := strings.Cut(pos, ":")
			p.Line, _ = strconv.Atoi(line)
			p.Column, _ = strconv.Atoi(column)
			p.Text = message
		}
	}
	return p
}

// position is where a value begins. The parser puts a block mapping at its first colon; people look for its first key.
func position(n ast.Node) token.Position {
	switch v := n.(type) {
	case *ast.MappingValueNode:
		return position(v.Key)
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return position(v.Values[0].Key)
		}
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return *t.Position
	}
	return token.Position{}
}

// Problems returns what was reported so far for the whole file, in the order of the file.
func (n Node) Problems() Problems {
	if n.report == nil {
		return nil
	}
	slices.SortStableFunc(n.report.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return n.report.problems
}

// Reportf adds a problem at this node.
func (n Node) Reportf(format string, args ...any) {
	if n.report == nil {
		return
	}
	n.report.problems = append(n.report.problems, Problem{
		File: n.report.file, Line: n.at.Line, Column: n.at.Column, Field: n.field, Text: fmt.Sprintf(format, args...),
	})
}

// Present reports whether the file has a value here (null counts as none).
func (n Node) Present() bool { return n.node != nil && n.node.Type() != ast.NullType }

// Scalar reports whether the file has a single value here, neither a mapping nor a list.
func (n Node) Scalar() bool {
	if !n.Present() {
		return false
	}
	switch n.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
		return false
	}
	return true
}

// Field returns the node's path in the file, "targets[0].limit".
func (n Node) Field() string { return n.field }

// Map is a mapping whose keys are all known.
type Map struct {
	self   Node // without a node where the file has no mapping here: what is missing in it was said already
	values map[string]Node
}

// Map reads a mapping with the given keys; an unknown key or a key that stands twice is a problem.
func (n Node) Map(keys ...string) Map {
	m := Map{self: n, values: map[string]Node{}}
	if !n.Present() {
		return m
	}
	var pairs []*ast.MappingValueNode
	switch v := n.node.(type) {
	case *ast.MappingNode:
		pairs = v.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{v}
	default:
		n.Reportf("found %s, want a mapping with %s", describe(n.node), strings.Join(keys, ", "))
		m.self.node = nil
		return m
	}
	for _, pair := range pairs {
		m.add(pair, keys)
	}
	return m
}

func (m Map) add(pair *ast.MappingValueNode, keys []string) {
	key := pair.Key.GetToken().Value
	child := Node{report: m.self.report, node: pair.Value, at: position(pair.Value), field: join(m.self.field, key)}
	atKey := child
	atKey.at = position(pair.Key)
	switch _, twice := m.values[key]; {
	case !slices.Contains(keys, key):
		atKey.Reportf("unknown field%s; known here: %s", suggest(key, keys), strings.Join(keys, ", "))
	case twice:
		atKey.Reportf("the field stands twice")
	default:
		if child.node.Type() == ast.NullType {
			child.at = atKey.at
		}
		m.values[key] = child
	}
}

// Get returns the value of an optional key; Present is false where it is missing.
func (m Map) Get(key string) Node {
	if n, ok := m.values[key]; ok {
		return n
	}
	return Node{report: m.self.report, at: m.self.at, field: join(m.self.field, key)}
}

// Need returns the value of a key that must be there; want says what would be right.
func (m Map) Need(key, want string) Node {
	n := m.Get(key)
	if !n.Present() && m.self.Present() {
		n.Reportf("missing: want %s", want)
	}
	return n
}

// List returns the elements of a sequence; a missing value has none. An element without a value is a problem and left out.
func (n Node) List() []Node {
	if !n.Present() {
		return nil
	}
	seq, ok := n.node.(*ast.SequenceNode)
	if !ok {
		n.Reportf("found %s, want a list", describe(n.node))
		return nil
	}
	out := make([]Node, 0, len(seq.Values))
	for i, v := range seq.Values {
		item := Node{report: n.report, node: v, at: position(v), field: n.field + "[" + strconv.Itoa(i) + "]"}
		if !item.Present() {
			item.Reportf("the element is empty")
			continue
		}
		out = append(out, item)
	}
	return out
}

// Text returns a scalar as it stands in the file; want says what would be right.
func (n Node) Text(want string) (string, bool) {
	if !n.Present() {
		return "", false
	}
	switch v := n.node.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return v.GetToken().Value, true
	default:
		n.Reportf("found %s, want %s", describe(n.node), want)
		return "", false
	}
}

// Value reads a scalar with parse; parse's error is the problem's text.
func Value[T any](n Node, want string, parse func(string) (T, error)) (T, bool) {
	var zero T
	text, ok := n.Text(want)
	if !ok {
		return zero, false
	}
	v, err := parse(text)
	if err != nil {
		n.Reportf("%s: want %s", err, want)
		return zero, false
	}
	return v, true
}

// Or reads an optional scalar: otherwise where the value is missing or wrong.
func Or[T any](n Node, otherwise T, want string, parse func(string) (T, error)) T {
	if v, ok := Value(n, want, parse); ok {
		return v
	}
	return otherwise
}

// Int parses a whole number between low and high.
func Int(low, high int) func(string) (int, error) {
	return func(s string) (int, error) {
		v, err := strconv.Atoi(strings.ReplaceAll(s, "_", ""))
		if err != nil || v < low || v > high {
			return 0, fmt.Errorf("found %q", s)
		}
		return v, nil
	}
}

// Duration parses a Go duration such as 30s between low and high.
func Duration(low, high time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		v, err := time.ParseDuration(s)
		if err != nil || v < low || v > high {
			return 0, fmt.Errorf("found %q", s)
		}
		return v, nil
	}
}

// Bool parses true or false.
func Bool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("found %q", s)
}

// OneOf parses one of a set of words.
func OneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if slices.Contains(words, s) {
			return s, nil
		}
		return "", fmt.Errorf("found %q%s", s, suggest(s, words))
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func describe(n ast.Node) string {
	switch n.Type() { //nolint:exhaustive // the rest are scalars
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	case ast.NullType:
		return "nothing"
	case ast.AnchorType:
		return "an anchor (anchors are not read: write the value where it is needed)"
	case ast.AliasType:
		return "an alias (aliases are not read: write the value where it is needed)"
	case ast.TagType:
		return "a tag (tags are not read: leave it out)"
	default:
		return strconv.Quote(n.GetToken().Value)
	}
}

// suggest names the known word that word was probably meant to be.
func suggest(word string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := editDistance(strings.ToLower(word), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// editDistance is Levenshtein's, over bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := previous
			if a[i] != b[j] {
				replace++
			}
			previous = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
