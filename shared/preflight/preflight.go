// Package preflight says whether Pointsman can do its work before it begins: each check looks at what was read and says what it found and what to do about it.
//
// Nothing is tried by writing. What could not be read is a finding too (Unknown), never silence: a check that was not made proves nothing.
package preflight

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Severity says how bad a finding is.
type Severity uint8

// The severities, the least bad first.
const (
	OK      Severity = iota + 1 // as it should be
	Note                        // worth knowing
	Unknown                     // it could not be checked
	Warning                     // it works, and will not on a bad day
	Error                       // it does not work
)

// String returns the word that tables and JSON show.
func (s Severity) String() string {
	switch s {
	case OK:
		return "ok"
	case Note:
		return "note"
	case Unknown:
		return "unknown"
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return fmt.Sprintf("severity-%d", uint8(s))
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is what one check found about one thing.
type Finding struct {
	Severity Severity `json:"severity"`
	Check    string   `json:"check"`        // one word: rights, locks, queue
	Of       string   `json:"of,omitempty"` // what was looked at: a target, an NVA, a queue
	Found    string   `json:"found"`
	Do       string   `json:"do,omitempty"` // what to do about it; "" where there is nothing to do
}

// Worst returns the greatest severity; OK of none.
func Worst(list []Finding) Severity {
	worst := OK
	for _, f := range list {
		worst = max(worst, f.Severity)
	}
	return worst
}

// Exit codes of the commands that print findings.
const (
	ExitClean = 0 // all is as it should be
	ExitError = 1 // something does not work
	ExitLook  = 2 // something may not work on a bad day, or could not be checked
)

// ExitCode returns the one for the worst of the findings.
func ExitCode(list []Finding) int {
	switch Worst(list) {
	case Error:
		return ExitError
	case Warning, Unknown:
		return ExitLook
	case OK, Note:
	}
	return ExitClean
}

// Summary counts the findings by severity, the worst first: "1 error, 2 warnings, 7 ok".
func Summary(list []Finding) string {
	var parts []string
	for s := Error; s >= OK; s-- {
		n := 0
		for _, f := range list {
			if f.Severity == s {
				n++
			}
		}
		word := s.String()
		if n != 1 && s != OK && s != Unknown {
			word += "s"
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, word))
		}
	}
	return strings.Join(parts, ", ")
}

// Text returns the findings as a table for people, each with what to do about it on a line of its own, and their summary.
func Text(list []Finding) string {
	severity, check, of := 0, 0, 0
	for _, f := range list {
		severity, check, of = max(severity, len(f.Severity.String())), max(check, len(f.Check)), max(of, utf8.RuneCountInString(f.Of))
	}
	var b strings.Builder
	for _, f := range list {
		fmt.Fprintf(&b, "%-*s  %-*s  %-*s  %s\n", severity, f.Severity, check, f.Check, of, f.Of, f.Found)
		if f.Do != "" {
			fmt.Fprintf(&b, "%*s  do: %s\n", severity+check+of+6, "", f.Do)
		}
	}
	b.WriteString(Summary(list) + "\n")
	return b.String()
}

// Read is what was read of something, or why it could not be.
type Read[T any] struct {
	Value T
	Err   error
}

// Unread is a finding about what could not be read. do says what would make it readable.
func Unread(check, of string, err error, do string) Finding {
	return Finding{Severity: Unknown, Check: check, Of: of, Found: "could not be checked: " + err.Error(), Do: do}
}

func about(check, of string) func(s Severity, found, do string) Finding {
	return func(s Severity, found, do string) Finding {
		return Finding{Severity: s, Check: check, Of: of, Found: found, Do: do}
	}
}

// Permission is what an identity may do, as Azure writes it: what one of Actions matches, without what one of NotActions matches. A "*" stands for any text.
// Source: Azure custom roles, "Actions" and "NotActions"; both compare without case.
type Permission struct{ Actions, NotActions []string }

// Allows reports whether one of the permissions grants the action. A NotAction takes from its own permission only.
func Allows(list []Permission, action string) bool {
	return slices.ContainsFunc(list, func(p Permission) bool {
		return matchesAny(p.Actions, action) && !matchesAny(p.NotActions, action)
	})
}

func matchesAny(patterns []string, action string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return wild(strings.ToLower(pattern), strings.ToLower(action)) })
}

// wild matches text with a pattern in which "*" stands for any text.
func wild(pattern, text string) bool {
	head, rest, starred := strings.Cut(pattern, "*")
	if !starred {
		return pattern == text
	}
	if !strings.HasPrefix(text, head) {
		return false
	}
	text = text[len(head):]
	for {
		var part string
		if part, rest, starred = strings.Cut(rest, "*"); !starred {
			return strings.HasSuffix(text, part)
		}
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
}

// Rights checks that the permissions grant all actions. who is whose they are.
func Rights(of, who string, permissions Read[[]Permission], actions []string, do string) Finding {
	say := about("rights", of)
	if permissions.Err != nil {
		return Unread("rights", of, permissions.Err, "give who runs this the right to read permissions and role assignments there (Reader has it)")
	}
	var missing []string
	for _, action := range actions {
		if !Allows(permissions.Value, action) {
			missing = append(missing, action)
		}
	}
	if len(missing) > 0 {
		return say(Error, who+" lacks "+strings.Join(missing, ", "), do)
	}
	return say(OK, who+" may do what is needed", "")
}

// OwnRights is Rights where the identity that will do the work is not named: what the caller may do says little of it.
func OwnRights(of string, permissions Read[[]Permission], actions []string) Finding {
	const do = "name the function app's identity with --principal (its object id), or run this as that identity"
	f := Rights(of, "who runs this", permissions, actions, do)
	switch f.Severity {
	case OK:
		f.Severity, f.Found, f.Do = Note, f.Found+"; whether the function app's identity may is not known", do
	case Error:
		f.Severity, f.Found = Unknown, "could not be checked for the function app's identity: "+f.Found
	case Note, Unknown, Warning:
	}
	return f
}

// Lock is a management lock that holds for a resource.
type Lock struct {
	Level string // ReadOnly or CanNotDelete
	Name  string
	Scope string // id of what was locked: the resource, or what it is in
}

// Locks checks that no lock forbids writes.
func Locks(of string, locks Read[[]Lock]) []Finding {
	say := about("locks", of)
	if locks.Err != nil {
		return []Finding{Unread("locks", of, locks.Err, "give who runs this Microsoft.Authorization/locks/read there (Reader has it)")}
	}
	var out []Finding
	for _, l := range slices.SortedFunc(slices.Values(locks.Value), func(a, b Lock) int { return cmp.Or(strings.Compare(a.Scope, b.Scope), strings.Compare(a.Name, b.Name)) }) {
		switch {
		case strings.EqualFold(l.Level, "CanNotDelete"):
			out = append(out, say(Note, fmt.Sprintf("lock %s (CanNotDelete) on %s: routes are changed by writing the table, which it does not forbid", l.Name, l.Scope), ""))
		default:
			out = append(out, say(Error, fmt.Sprintf("lock %s (%s) on %s: every write is refused", l.Name, l.Level, l.Scope), "remove the lock, or make it CanNotDelete"))
		}
	}
	if len(out) == 0 {
		out = append(out, say(OK, "no lock", ""))
	}
	return out
}

// Denial is a policy that would deny a write.
type Denial struct{ Assignment, Definition string }

// Policies checks what Azure Policy says of the table as Pointsman would write it.
func Policies(of string, denials Read[[]Denial]) []Finding {
	say := about("policy", of)
	if denials.Err != nil {
		return []Finding{Unread("policy", of, denials.Err, "give who runs this Microsoft.PolicyInsights/checkPolicyRestrictions/read there (Reader has it); or see Compliance of the policies that are assigned")}
	}
	var out []Finding
	for _, d := range denials.Value {
		out = append(out, say(Error, fmt.Sprintf("policy assignment %s would deny the table with a route of Pointsman's (definition %s)", d.Assignment, d.Definition),
			"exempt the table, or change the policy: an exemption is not always seen by this check"))
	}
	if len(out) == 0 {
		out = append(out, say(OK, "Azure Policy would not deny the table with a route of Pointsman's, as far as it can tell beforehand", ""))
	}
	return out
}
