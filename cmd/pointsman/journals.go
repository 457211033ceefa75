package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/replay"
)

// fromState begins an argument that names files of the state store: "state:journal/hub/2026-03-01" is all whose names begin with that.
const fromState = "state:"

// stdin names the standard input.
const stdin = "-"

// input is a file, whole.
type input struct {
	name string // for messages
	data []byte
}

// readJournals reads what the arguments name: files, the standard input, and journals in a state store.
func (c connection) readJournals(cmd *cobra.Command, args []string) ([]input, error) {
	var files []input
	for _, arg := range args {
		found, err := c.readJournal(cmd, arg)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

func (c connection) readJournal(cmd *cobra.Command, arg string) ([]input, error) {
	if prefix, ok := strings.CutPrefix(arg, fromState); ok {
		return c.fetch(cmd, arg, prefix)
	}
	if strings.HasPrefix(arg, "https://") || strings.HasPrefix(arg, "http://") {
		prefix, err := c.at(arg)
		if err != nil {
			return nil, err
		}
		return c.fetch(cmd, arg, prefix)
	}
	data, err := readInput(cmd, arg)
	if err != nil {
		return nil, err
	}
	return []input{{arg, data}}, nil
}

// at turns the connection to the storage account and the container of a blob's address, and returns the rest.
func (c *connection) at(address string) (prefix string, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errInput, err)
	}
	container, prefix, ok := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if !ok || prefix == "" || u.RawQuery != "" {
		return "", fmt.Errorf("%w: %s: want https://ACCOUNT.blob.core.windows.net/CONTAINER/journal/DOMAIN/DAY, without a query: signing in is by --client-id or --as-me", errInput, address)
	}
	c.connection, c.url, c.container = "", u.Scheme+"://"+u.Host, container
	return prefix, nil
}

// fetch reads all files of the state store whose names begin with the prefix.
func (c *connection) fetch(cmd *cobra.Command, arg, prefix string) ([]input, error) {
	store, err := c.blobs(c.container)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.bounded(cmd)
	defer cancel()
	names, err := store.List(ctx, prefix)
	if err != nil {
		return nil, stateTrouble(ctx, err)
	}
	var files []input
	for _, name := range names {
		data, _, readErr := store.Read(ctx, name, "")
		if readErr != nil {
			return nil, stateTrouble(ctx, readErr)
		}
		files = append(files, input{name, data})
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: %s: no file in container %s begins with %s", errInput, arg, c.container, prefix)
	}
	return files, nil
}

// journalOf reads the lines of the files.
func journalOf(files []input) (*replay.Journal, error) {
	j := &replay.Journal{}
	for _, f := range files {
		if err := j.Read(f.name, f.data); err != nil {
			return nil, fmt.Errorf("%w: %w", errInput, err)
		}
	}
	return j, nil
}

// readInput reads a file, or the standard input for -.
func readInput(cmd *cobra.Command, path string) ([]byte, error) {
	read := func() ([]byte, error) { return os.ReadFile(path) }
	if path == stdin {
		read = func() ([]byte, error) { return io.ReadAll(cmd.InOrStdin()) }
	}
	data, err := read()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	return data, nil
}
