package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// manCommand is for packaging: it is not listed.
func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the man pages",
		Hidden:  true,
		Example: `  pointsman man pages`,
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil { // man pages are for everybody
				return fmt.Errorf("man pages: %w", err)
			}
			return writePages(cmd.Root(), args[0])
		},
	}
}

// writePages writes a page for each command that is listed.
func writePages(c *cobra.Command, dir string) error {
	name := filepath.Join(dir, pageName(c)+".1")
	if err := os.WriteFile(name, []byte(page(c)), 0o644); err != nil { // man pages are for everybody
		return fmt.Errorf("man pages: %w", err)
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "completion" {
			if err := writePages(sub, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// page returns one page in the form of man(7).
func page(c *cobra.Command) string {
	var b strings.Builder
	section := func(title, text string) {
		if text != "" {
			fmt.Fprintf(&b, ".SH %s\n%s\n", title, strings.TrimRight(text, "\n"))
		}
	}
	fmt.Fprintf(&b, ".TH %q 1 \"\" %q\n", strings.ToUpper(pageName(c)), "pointsman "+version)
	section("NAME", roff(pageName(c)+" - "+c.Short))
	section("SYNOPSIS", ".B "+roff(c.UseLine()))
	section("DESCRIPTION", roff(c.Long))
	if flags := c.NonInheritedFlags(); flags.HasFlags() {
		section("OPTIONS", ".nf\n"+roff(flags.FlagUsages())+".fi")
	}
	if c.Example != "" {
		section("EXAMPLES", ".nf\n"+roff(c.Example)+"\n.fi")
	}
	section("EXIT STATUS", roff("0 done; 1 it could not be done, or is not as expected; 2 plan found changes, or preflight something to look at; 3 a file, a flag or an argument is wrong."))
	var others []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "completion" {
			others = append(others, ".BR "+roff(pageName(sub))+" (1)")
		}
	}
	if c.HasParent() {
		others = append(others, ".BR "+roff(pageName(c.Parent()))+" (1)")
	}
	section("SEE ALSO", strings.Join(others, "\n"))
	return b.String()
}

// roff protects text from being read as instructions.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
