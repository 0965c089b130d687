package policy

// Truth is the result of a comparison that may depend on what cannot be known.
type Truth int8

// The three values, ordered so that "and" is the least and "or" the greatest.
const (
	False Truth = iota
	Unknown
	True
)

func (t Truth) String() string { return [...]string{"no", "unknown", "yes"}[t] }

// MarshalText makes explanations readable: yes, no or unknown.
func (t Truth) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

func (t Truth) not() Truth { return True - t }

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}
