// Package docs runs the commands of the documentation, and checks what it says of the programs.
//
// A block of commands begins with ```sh and perhaps a word that says why it is not run:
//
//	sh        run, all those of a page in one shell, in order, with an emulated Azure in the environment and a journal day.jsonl of the domain file hub.yaml
//	sh azure  needs an Azure subscription
//	sh root   changes the machine, as root: an NVA
//	sh slow   takes long, or is run by test/run itself
//
// What is not run is read: it must be correct shell, and each command of ours in it must exist with the flags that it is given.
package docs

import (
	"fmt"
	"regexp"
	"strings"
)

// Block is a fenced block of a page.
type Block struct {
	Page string
	Line int      // of its first line of text
	Info []string // the words behind the fence
	Text string
}

// String returns where the block is.
func (b Block) String() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

// Is reports whether the block is of a language.
func (b Block) Is(language string) bool { return len(b.Info) > 0 && b.Info[0] == language }

// Blocks returns the fenced blocks of a page.
func Blocks(page, text string) ([]Block, error) {
	var out []Block
	var open *Block
	n := 0
	for line := range strings.Lines(text) {
		n++
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &Block{Page: page, Line: n + 1, Info: strings.Fields(fence)}
		case isFence && fence != "":
			return nil, fmt.Errorf("%s:%d: a block begins within the one of line %d", page, n, open.Line)
		case isFence:
			out, open = append(out, *open), nil
		case open != nil:
			open.Text += line
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s:%d: the block is never closed", page, open.Line)
	}
	return out, nil
}

var (
	heredoc     = regexp.MustCompile(`(?ms)<<'?EOF'?([^\n]*)\n.*?^EOF$`)
	comment     = regexp.MustCompile(`(^|\s)#[^\n]*`)
	quoted      = regexp.MustCompile(`'[^']*'|"[^"$]*"`)
	redirection = regexp.MustCompile(`\d?>&\d|\d?[<>]\s*\S+`)
	separator   = regexp.MustCompile(`\|\||&&|[|;&\n()]|\$\(`)
	setting     = regexp.MustCompile(`^\w+=`)
)

// Commands returns the simple commands of a shell text as words: without comments, redirections, here-documents, what runs them as somebody else, and settings. It knows as much of
// the shell as the documentation uses.
func Commands(text string) [][]string {
	text = heredoc.ReplaceAllString(text, "$1")
	text = quoted.ReplaceAllStringFunc(text, func(q string) string { return "'" + strings.Map(plain, q[1:len(q)-1]) + "'" })
	text = comment.ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, "\\\n", " ")
	text = redirection.ReplaceAllString(strings.ReplaceAll(text, `"`, " "), "") // what is left of quotes holds commands
	var out [][]string
	for _, part := range separator.Split(text, -1) {
		words := strings.Fields(part)
		for len(words) > 0 && (setting.MatchString(words[0]) || strings.Contains(around, " "+words[0]+" ")) {
			words = words[1:]
		}
		if len(words) > 0 {
			out = append(out, words)
		}
	}
	return out
}

// around are words that may stand before a command, or alone.
const around = " sudo nice exec ! if then else fi until while do done { } "

// plain keeps quoted text from being read as shell.
func plain(r rune) rune {
	if strings.ContainsRune("|;&\n()#`$<> ", r) {
		return '_'
	}
	return r
}
