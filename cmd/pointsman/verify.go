package main

import (
	"bytes"
	"fmt"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/signature"
)

// verify checks that every event of the journals that is of an NVA with keys in the domain file is signed with one of them, and likewise every order if the file has operators.
func verify(files []input, domainFile string) error {
	if domainFile == "" {
		return fmt.Errorf("%w: --verify needs --config", errInput)
	}
	domains, err := readDomains([]string{domainFile})
	if err != nil {
		return err
	}
	for _, f := range files {
		number := 0
		for line := range bytes.Lines(f.data) {
			number++
			if err = verifyLine(domains[0].domain, line); err != nil {
				return fmt.Errorf("%w: %s, line %d: %w", errInput, f.name, number, err)
			}
		}
	}
	return nil
}

// verifyLine leaves what is no event, or of another domain, to whoever reads the journal.
func verifyLine(d *config.Domain, line []byte) error {
	if o, err := order.Decode(line); err == nil && o.Domain == d.Name && d.Warrant() == config.WarrantSigned {
		if _, _, err = signature.OpenOrder(line, d.OperatorKeys()); err != nil {
			return fmt.Errorf("order %s: %w", o.MessageID(), err)
		}
	}
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
