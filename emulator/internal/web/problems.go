package web

import (
	"errors"
	"fmt"
	"strings"
)

// Problems is what is wrong with the fields of something that a caller gave, all at once.
type Problems []string

// Refuse notes, if wrong, what was found in a field and what would be right.
func (p *Problems) Refuse(wrong bool, field string, found any, right string) {
	if wrong {
		*p = append(*p, fmt.Sprintf("%s is %#v: it must be %s", field, found, right))
	}
}

// AtLeast refuses a number below least.
func (p *Problems) AtLeast(least int, field string, found int) {
	p.Refuse(found < least, field, found, fmt.Sprintf("%d or more", least))
}

// Err returns the problems of the thing what as one error, nil if there are none.
func (p Problems) Err(what string) error {
	if len(p) == 0 {
		return nil
	}
	return errors.New(what + ": " + strings.Join(p, "; "))
}
