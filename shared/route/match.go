package route

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Match is one line of a prefix list, with the meaning that FRR and Cisco IOS give it: without ge and le it matches the
// prefix exactly, with them every more specific prefix whose length lies between.
type Match struct {
	Prefix netip.Prefix
	Min    int // shortest length that matches
	Max    int // longest length that matches
}

// ParseMatch reads "10.0.0.0/8", "10.0.0.0/8 le 24", "10.0.0.0/8 ge 16" or "10.0.0.0/8 ge 16 le 24".
func ParseMatch(s string) (Match, error) {
	words := strings.Fields(s)
	if len(words) == 0 {
		return Match{}, fmt.Errorf("empty prefix match: write for example 10.0.0.0/8 le 24")
	}
	p, err := Parse(words[0])
	if err != nil {
		return Match{}, err
	}
	if len(words)%2 == 0 {
		return Match{}, fmt.Errorf("%q: after the prefix come pairs such as ge 16 or le 24", s)
	}
	bounds := map[string]int{}
	for i := 1; i < len(words); i += 2 {
		if err = bound(bounds, p, words[i], words[i+1]); err != nil {
			return Match{}, fmt.Errorf("%q: %w", s, err)
		}
	}
	m := Match{Prefix: p, Min: p.Bits(), Max: p.Bits()}
	ge, hasGE := bounds["ge"]
	le, hasLE := bounds["le"]
	if hasGE { // alone it opens the range up to the longest length, as in FRR
		m.Min, m.Max = ge, p.Addr().BitLen()
	}
	if hasLE {
		m.Max = le
	}
	if m.Min > m.Max {
		return Match{}, fmt.Errorf("%q matches nothing: ge %d is above le %d", s, m.Min, m.Max)
	}
	return m, nil
}

// bound notes one "ge N" or "le N" for p; each may stand once, in either order.
func bound(bounds map[string]int, p netip.Prefix, word, number string) error {
	if word != "ge" && word != "le" {
		return fmt.Errorf("%q is neither ge nor le", word)
	}
	n, err := strconv.Atoi(number)
	if longest := p.Addr().BitLen(); err != nil || n < p.Bits() || n > longest {
		return fmt.Errorf("%s %s: want a length from %d to %d", word, number, p.Bits(), longest)
	}
	if _, twice := bounds[word]; twice {
		return fmt.Errorf("%s stands twice", word)
	}
	bounds[word] = n
	return nil
}

// Matches reports whether p is matched; a prefix of the other family never is.
func (m Match) Matches(p netip.Prefix) bool {
	return p.Bits() >= m.Min && p.Bits() <= m.Max && m.Prefix.Contains(p.Addr())
}

// String returns the form that ParseMatch reads.
func (m Match) String() string {
	s := m.Prefix.String()
	if m.Min != m.Prefix.Bits() {
		s += " ge " + strconv.Itoa(m.Min)
	}
	if m.Max != m.Prefix.Bits() {
		s += " le " + strconv.Itoa(m.Max)
	}
	return s
}

// AnyMatches reports whether one of the list matches p.
func AnyMatches(list []Match, p netip.Prefix) bool {
	for _, m := range list {
		if m.Matches(p) {
			return true
		}
	}
	return false
}
