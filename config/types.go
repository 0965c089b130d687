package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size int64

var units = []struct {
	name string
	n    int64
}{ // longest first: parsing takes the first that fits
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

// String writes s in the largest binary unit that is exact.
func (s Size) String() string {
	for _, u := range units[:4] {
		if s != 0 && int64(s)%u.n == 0 {
			return strconv.FormatInt(int64(s)/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

var errSize = errors.New("expected a size such as 1MiB, 512KiB or 10MB, or a plain number of bytes")

// ParseSize reads a size: a whole number, and a unit of 1000 (kB MB GB TB) or
// of 1024 (KiB MiB GiB TiB).
func ParseSize(text string) (Size, error) {
	number, unit := text, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(text, u.name); ok {
			number, unit = strings.TrimSuffix(n, " "), u.n
			break
		}
	}
	if number == "" || strings.Trim(number, "0123456789") != "" {
		return 0, errSize
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return 0, errors.New("too large")
	}
	return Size(n * unit), nil
}

var errDuration = errors.New("expected a duration such as 1h, 30m, 90s or 30d")

// ParseDuration reads a duration as time.ParseDuration does, with days: 30d is 720h.
func ParseDuration(text string) (time.Duration, error) {
	var days time.Duration
	rest := text
	if n, after, ok := strings.Cut(text, "d"); ok {
		d, err := strconv.ParseInt(n, 10, 32)
		if err != nil || d < 0 || d > 36500 || strings.HasPrefix(n, "+") {
			return 0, errDuration
		}
		days, rest = time.Duration(d)*24*time.Hour, after
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	switch {
	case err != nil && strings.Trim(text, "0123456789") == "" && text != "":
		return 0, fmt.Errorf("the unit is missing: expected a duration such as %ss, %sm or %sh", text, text, text)
	case err != nil:
		return 0, errDuration
	case d < 0:
		return 0, errors.New("expected a duration that is not negative")
	}
	return days + d, nil
}

// Strings is a list that may be written as a single value.
type Strings []string
