package main

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/signature"
)

// verify checks that every event of the journals that is of an NVA with keys in the domain file is signed with one of them.
func verify(cmd *cobra.Command, paths []string, domainFile string) error {
	if domainFile == "" || slices.Contains(paths, "-") {
		return fmt.Errorf("%w: --verify needs --config, and files instead of the standard input", errInput)
	}
	files, err := readDomains([]string{domainFile})
	if err != nil {
		return err
	}
	for _, path := range paths {
		data, failed := readInput(cmd, path)
		if failed != nil {
			return failed
		}
		number := 0
		for line := range bytes.Lines(data) {
			number++
			if err = verifyLine(files[0].domain, line); err != nil {
				return fmt.Errorf("%w: %s, line %d: %w", errInput, path, number, err)
			}
		}
	}
	return nil
}

// verifyLine leaves what is no event, or of another domain, to whoever reads the journal.
func verifyLine(d *config.Domain, line []byte) error {
	if e, err := event.Decode(line); err == nil && e.Domain == d.Name {
		nva, _ := d.NVA(e.NVA)
		if len(nva.Keys) == 0 {
			return nil
		}
		if _, _, err = signature.Open(line, nva.Keys); err != nil {
			return fmt.Errorf("event %s: %w", e.ID(), err)
		}
	}
	return nil
}
