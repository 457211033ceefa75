package main

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

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
		data, err := readInput(cmd, path)
		if err != nil {
			return err
		}
		number := 0
		for line := range bytes.Lines(data) {
			number++
			e, failed := event.Decode(line)
			if failed != nil || e.Domain != files[0].domain.Name {
				continue // whoever reads the journal says what is wrong with it
			}
			nva, _ := files[0].domain.NVA(e.NVA)
			if len(nva.Keys) == 0 {
				continue
			}
			if _, _, err = signature.Open(line, nva.Keys); err != nil {
				return fmt.Errorf("%w: %s, line %d: event %s: %w", errInput, path, number, e.ID(), err)
			}
		}
	}
	return nil
}
