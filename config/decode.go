package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/countersign-proxy/countersign/safefile"
)

// place is where a value came from.
type place struct {
	name      string // variable or flag; "" for the file and for defaults
	line, col int
}

func (p place) known() bool { return p.name != "" || p.line > 0 }

// decoder turns a tree of nodes into a Config and notes what is wrong with it.
type decoder struct {
	file string // as it is named in messages
	dir  string // relative paths of the file start here
	cwd  string // those of variables and flags here
	home string

	given    map[*yaml.Node]string // nodes that variables and flags gave, and their names
	problems Problems
	at       map[string]place // of every key that was decoded
	order    []string         // names of roles as they come
	files    []string         // that the configuration refers to
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
	stringsType  = reflect.TypeFor[Strings]()
	tunnelType   = reflect.TypeFor[Tunnel]()
	unsignedType = reflect.TypeFor[[]Unsigned]()
)

// problem notes what is wrong with the value of a key, where that value stands
// or, if nothing was given for it, where what is around it stands.
//
// A value that is wrong by itself has been left out, so that what it says
// together with others means nothing: then the first message is enough.
func (d *decoder) problem(key, format string, args ...any) {
	if d.wrong(key) || d.within(key) {
		return
	}
	at, around := place{}, key
	for {
		if p, ok := d.at[around]; ok {
			at = p
			break
		}
		if around == "" {
			break
		}
		around = around[:max(strings.LastIndexAny(around, ".["), 0)]
	}
	d.problemAt(at, key, format, args...)
}

// wrong reports whether something has been noted about a key or what is below it.
func (d *decoder) wrong(key string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool {
		rest, ok := strings.CutPrefix(p.Key, key)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// within reports whether something has been noted about what a key is in.
func (d *decoder) within(key string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool {
		rest, ok := strings.CutPrefix(key, p.Key)
		return ok && p.Key != "" && rest != "" && (rest[0] == '.' || rest[0] == '[')
	})
}

func (d *decoder) problemAt(at place, key, format string, args ...any) {
	p := Problem{Key: key, Message: fmt.Sprintf(format, args...), Var: at.name}
	if at.name == "" {
		p.File, p.Line, p.Col = d.file, at.line, at.col
	}
	d.problems = append(d.problems, p)
}

// from is the place of n: its own, or that of the variable that gave it.
func (d *decoder) from(n *yaml.Node, outer place) place {
	if outer.name != "" {
		return outer
	}
	if name, ok := d.given[n]; ok {
		return place{name: name}
	}
	return place{line: n.Line, col: n.Column}
}

// value decodes n, the value of key, into v. pattern is the key in the table.
func (d *decoder) value(v reflect.Value, n *yaml.Node, key, pattern string, outer place) {
	at := d.from(n, outer)
	if at.name != "" {
		outer = at // and what is below it is from there too
	}
	if at.known() {
		d.at[key] = at
	}
	if !d.plain(n, key, at) {
		return
	}
	switch v.Type() {
	case tunnelType:
		d.tunnel(v.Addr().Interface().(*Tunnel), n, key, at)
		return
	case unsignedType:
		if n.Kind == yaml.ScalarNode {
			if n.Value != "deny" {
				d.problemAt(at, key, "%s is not known; expected deny, or a list such as [{hosts: [...], methods: [GET]}]", quote(n.Value))
			}
			return
		}
	case stringsType:
		if n.Kind == yaml.ScalarNode {
			one := reflect.New(reflect.TypeFor[string]()).Elem()
			d.scalar(one, n, key, pattern, at)
			v.Set(reflect.ValueOf(Strings{one.String()}))
			return
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		if d.kind(n, yaml.MappingNode, key, pattern, at) {
			d.structure(v, n, key, pattern, outer)
		}
	case reflect.Map:
		if d.kind(n, yaml.MappingNode, key, pattern, at) {
			d.mapping(v, n, key, pattern, outer)
		}
	case reflect.Slice:
		if d.kind(n, yaml.SequenceNode, key, pattern, at) {
			d.sequence(v, n, key, pattern, outer)
		}
	default:
		if d.kind(n, yaml.ScalarNode, key, pattern, at) {
			d.scalar(v, n, key, pattern, at)
		}
	}
}

// plain refuses what YAML has beyond maps, lists and plain values.
func (d *decoder) plain(n *yaml.Node, key string, at place) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		d.problemAt(at, key, "aliases (*%s) are not supported; write the value out", n.Value)
	case n.Tag == "!!null":
		d.problemAt(at, key, "there is no value; leave the key out, or write \"\", [] or {} for an empty one")
	case n.Kind == yaml.ScalarNode && n.Tag == "!!binary", n.Tag != "" && !strings.HasPrefix(n.Tag, "!!"):
		d.problemAt(at, key, "the tag %s is not supported; write a plain value", quote(n.Tag))
	default:
		return true
	}
	return false
}

// kind reports whether n is of a kind, and says what was expected if not.
func (d *decoder) kind(n *yaml.Node, want yaml.Kind, key, pattern string, at place) bool {
	if n.Kind == want {
		return true
	}
	is := map[yaml.Kind]string{yaml.MappingNode: "a map", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}
	expected := is[want]
	if s := byKey[pattern]; s != nil {
		expected = s.expected()
		if want == yaml.ScalarNode {
			expected = s.expectedOne()
		}
	}
	hint := ""
	if want == yaml.SequenceNode && n.Kind == yaml.ScalarNode && n.Value != "" && !byKeySecret(pattern) {
		hint = fmt.Sprintf(", such as [%s]", strings.Trim(quote(n.Value), `"`))
	}
	d.problemAt(at, key, "this is %s; expected %s%s", is[n.Kind], expected, hint)
	return false
}

// byKeySecret reports whether the value of a key must not be shown in messages.
func byKeySecret(pattern string) bool {
	s := byKey[pattern]
	return s != nil && s.path == secretPath
}

// pairs yields keys and values of a map, and complains about keys that are
// given twice or are no plain text.
func (d *decoder) pairs(n *yaml.Node, key string, outer place, f func(name string, k, v *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		at := d.from(k, outer)
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" || k.Tag == "!!null" {
			d.problemAt(at, key, "a key here is no plain name; merge keys (<<) and compound keys are not supported")
			continue
		}
		if line, ok := seen[k.Value]; ok {
			d.problemAt(at, join(key, k.Value), "the key is given twice; it is on line %d already", line)
			continue
		}
		seen[k.Value] = k.Line
		f(k.Value, k, v)
	}
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

func (d *decoder) structure(v reflect.Value, n *yaml.Node, key, pattern string, outer place) {
	fields := map[string]int{}
	var names []string
	for i := range v.NumField() {
		if name := v.Type().Field(i).Tag.Get("key"); name != "" {
			fields[name] = i
			names = append(names, name)
		}
	}
	present := map[string]bool{}
	d.pairs(n, key, outer, func(name string, k, val *yaml.Node) {
		i, ok := fields[name]
		if !ok {
			d.problemAt(d.from(k, outer), join(key, name), "there is no such key; %s", suggest(name, pattern, names))
			return
		}
		present[name] = true
		d.value(v.Field(i), val, join(key, name), join(pattern, name), outer)
	})
	for _, name := range names {
		if present[name] {
			continue
		}
		f, childPattern := v.Field(fields[name]), join(pattern, name)
		s := byKey[childPattern]
		switch {
		case s == nil && f.Kind() == reflect.Struct: // a section that was left out
			d.structure(f, &yaml.Node{Kind: yaml.MappingNode}, join(key, name), childPattern, outer)
		case s != nil && s.Default != "":
			node, err := textNode(f.Type(), s.Default)
			if err != nil {
				panic("config: default of " + s.Key + ": " + err.Error())
			}
			d.value(f, node, join(key, name), childPattern, place{})
		case s != nil && s.Required:
			d.problemAt(d.from(n, outer), join(key, name), "the key is missing; expected %s", s.expected())
		}
	}
}

// suggest says what an unknown key may have been meant to be.
func suggest(name, pattern string, names []string) string {
	if best := nearest(name, names); best != "" {
		return "did you mean " + best + "?"
	}
	// A key of another section, written in the wrong place.
	for _, s := range settings {
		if last := s.Key[strings.LastIndex(s.Key, ".")+1:]; last == name && !strings.ContainsAny(s.Key, "*[") {
			return "did you mean " + s.Key + "?"
		}
	}
	where := "here"
	if pattern == "" {
		where = "at the top"
	}
	return "expected " + where + " one of " + strings.Join(names, ", ")
}

func (d *decoder) mapping(v reflect.Value, n *yaml.Node, key, pattern string, outer place) {
	m := reflect.MakeMap(v.Type())
	d.pairs(n, key, outer, func(name string, k, val *yaml.Node) {
		child, childPattern := join(key, name), pattern+".*"
		elem := reflect.New(v.Type().Elem()).Elem()
		if elem.Kind() == reflect.Struct {
			if msg := checkName(name); msg != "" {
				d.problemAt(d.from(k, outer), child, "%s", msg)
				return
			}
		} else {
			childPattern = pattern // texts are checked as the map says
			if name == "" {
				d.problemAt(d.from(k, outer), key, "a name here is empty")
				return
			}
		}
		d.value(elem, val, child, childPattern, outer)
		m.SetMapIndex(reflect.ValueOf(name), elem)
		if pattern == "roles" {
			d.order = append(d.order, name)
		}
	})
	if m.Len() > 0 {
		v.Set(m)
	} else if s := byKey[pattern]; s != nil && s.Required {
		d.problemAt(d.from(n, outer), key, "this is empty; expected %s", s.expected())
	}
}

func (d *decoder) sequence(v reflect.Value, n *yaml.Node, key, pattern string, outer place) {
	s := byKey[pattern]
	if len(n.Content) == 0 {
		if s != nil && s.Required {
			d.problemAt(d.from(n, outer), key, "the list is empty; expected %s", s.expected())
		}
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		child, childPattern := fmt.Sprintf("%s[%d]", key, i), pattern+"[]"
		if v.Type().Elem().Kind() == reflect.String {
			childPattern = pattern
			if item.Kind == yaml.ScalarNode && item.Tag != "!!null" && item.Value == "" {
				d.problemAt(d.from(item, outer), child, "an entry of the list is empty")
				continue
			}
		}
		d.value(list.Index(i), item, child, childPattern, outer)
	}
	v.Set(list)
}

func (d *decoder) scalar(v reflect.Value, n *yaml.Node, key, pattern string, at place) {
	text, s := n.Value, byKey[pattern]
	isText := v.Kind() == reflect.String
	// A number or a boolean that was written as a text is a slip of the pen in
	// the file; a variable, a flag and a default have nothing but text.
	if !isText && n.Tag == "!!str" && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 && at.name == "" {
		d.problemAt(at, key, "this is a text; expected %s, without quotes", s.expectedOne())
		return
	}
	switch v.Type() {
	case durationType:
		t, err := ParseDuration(text)
		if err != nil {
			d.problemAt(at, key, "%s is no duration: %v", quote(text), err)
			return
		}
		v.SetInt(int64(t))
		return
	case sizeType:
		t, err := ParseSize(text)
		if err != nil {
			d.problemAt(at, key, "%s is no size: %v", quote(text), err)
			return
		}
		v.SetInt(int64(t))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		if text != "true" && text != "false" {
			d.problemAt(at, key, "%s is no boolean; expected true or false", quote(text))
			return
		}
		v.SetBool(text == "true")
	case reflect.Int:
		t, err := strconv.ParseInt(text, 10, 32)
		if err != nil || t < 0 {
			d.problemAt(at, key, "%s is no number; expected a whole number from 0 to %d", quote(text), math.MaxInt32)
			return
		}
		v.SetInt(t)
	case reflect.String:
		v.SetString(d.text(text, key, s, at))
	}
}

func (d *decoder) text(text, key string, s *Setting, at place) string {
	if strings.ContainsRune(text, 0) {
		d.problemAt(at, key, "there is a NUL character in it")
		return ""
	}
	if s == nil {
		return text
	}
	if text == "" {
		if s.Required {
			d.problemAt(at, key, "this is empty; expected %s", s.expected())
		}
		return ""
	}
	if s.path != notPath {
		return d.filename(text, key, s, at)
	}
	if s.check != nil {
		if wrong := s.check(text); wrong != "" {
			d.problemAt(at, key, "%s", wrong)
		}
	}
	return text
}

// filename makes a path absolute and checks what is there.
func (d *decoder) filename(text, key string, s *Setting, at place) string {
	if s.path == auditPath && text == "-" {
		return text
	}
	path := text
	switch {
	case path == "~" || strings.HasPrefix(path, "~/"):
		if d.home == "" {
			d.problemAt(at, key, "~ cannot be used: the home directory is not known; expected an absolute path")
			return ""
		}
		path = filepath.Join(d.home, path[1:])
	case strings.HasPrefix(path, "~"):
		d.problemAt(at, key, "%s: only ~/ is expanded; expected the path written out", quoteFor(s, text))
		return ""
	case !filepath.IsAbs(path) && at.name == "":
		path = filepath.Join(d.dir, path)
	case !filepath.IsAbs(path):
		path = filepath.Join(d.cwd, path)
	}
	path = filepath.Clean(path)
	var err error
	switch s.path {
	case filePath:
		d.files = append(d.files, path)
		err = safefile.Check(path, safefile.Any)
	case freshPath:
		err = safefile.Check(path, safefile.Any)
	case secretPath:
		d.files = append(d.files, path)
		err = safefile.Check(path, safefile.Private)
	case anyPath:
	case auditPath:
		if info, serr := os.Stat(filepath.Dir(path)); serr != nil || !info.IsDir() {
			d.problemAt(at, key, "the directory %s does not exist; make it first", quote(filepath.Dir(path)))
		} else if info, serr := os.Stat(path); serr == nil && info.IsDir() {
			d.problemAt(at, key, "%s is a directory; expected a file", quote(path))
		}
	}
	if err != nil {
		d.problemAt(at, key, "%s", fileProblem(s, text, path, err))
	}
	return path
}

// quoteFor shows the value of a setting, unless a secret may have been put in
// the place of its file.
func quoteFor(s *Setting, text string) string {
	if s.path == secretPath {
		return "the value"
	}
	return quote(text)
}

func fileProblem(s *Setting, text, path string, err error) string {
	what := quote(path)
	if s.path == secretPath {
		// The secret itself may have been written where its file belongs.
		what = "the file"
		if looksLikeSecret(text) {
			return "this looks like a secret and not like the name of a file; expected a file that holds it, with mode 0600"
		}
	}
	var exposed *safefile.ExposedError
	switch {
	case errors.As(err, &exposed):
		return exposed.Error()
	case errors.Is(err, fs.ErrNotExist):
		return what + " does not exist; expected " + s.expectedOne()
	case errors.Is(err, fs.ErrPermission):
		return what + " cannot be read by this user; check its owner and mode"
	case errors.Is(err, safefile.ErrNotRegular):
		return what + " is not a regular file; expected " + s.expectedOne()
	}
	var perr *fs.PathError
	if errors.As(err, &perr) {
		err = perr.Err
	}
	return fmt.Sprintf("%s cannot be read: %v", what, err)
}

// looksLikeSecret reports whether text is more probably a secret access key
// than a path: long, and of base64 letters, with no extension.
func looksLikeSecret(text string) bool {
	return len(text) >= 32 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-") == "" &&
		strings.ContainsAny(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") && !strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "~")
}

func (d *decoder) tunnel(t *Tunnel, n *yaml.Node, key string, at place) {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Value != TunnelPublic && n.Value != TunnelNone {
			d.problemAt(at, key, "%s is not known; expected public, none, or a list of host patterns", quote(n.Value))
			return
		}
		t.Mode = n.Value
	case yaml.SequenceNode:
		if len(n.Content) == 0 {
			t.Mode = TunnelNone
			return
		}
		t.Mode = TunnelList
		for i, item := range n.Content {
			child := fmt.Sprintf("%s[%d]", key, i)
			at := d.from(item, place{name: at.name})
			if !d.plain(item, child, at) {
				continue
			}
			if item.Kind != yaml.ScalarNode {
				d.problemAt(at, child, "expected a host pattern such as \"*.example.com\"")
				continue
			}
			if wrong := checkTunnelPattern(item.Value); wrong != "" {
				d.problemAt(at, child, "%s", wrong)
			}
			t.Patterns = append(t.Patterns, item.Value)
		}
	default:
		d.problemAt(at, key, "this is a map; expected public, none, or a list of host patterns")
	}
}

// textNode makes a node out of the text of a variable, a flag or a default:
// texts, numbers and booleans as they are, lists separated by commas, maps as
// name=value separated by commas, and anything as YAML that begins with [ or {.
func textNode(t reflect.Type, text string) (*yaml.Node, error) {
	scalar := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }
	text = strings.TrimSpace(text)
	if text == `""` || text == `''` {
		text = ""
	}
	compound := t.Kind() == reflect.Slice || t.Kind() == reflect.Map || t == tunnelType
	if !compound {
		return scalar(text), nil
	}
	if strings.HasPrefix(text, "[") || strings.HasPrefix(text, "{") {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			return nil, errors.New("cannot be read as YAML: " + yamlMessage(err))
		}
		return doc.Content[0], nil
	}
	var parts []string
	if text != "" {
		parts = strings.Split(text, ",")
	}
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	switch {
	case t == tunnelType && len(parts) == 1 && !strings.ContainsAny(text, ".:"), t == unsignedType && text == "deny":
		return scalar(text), nil // one word, right or wrong: no host that is tunnelled to has such a name
	case t.Kind() == reflect.Map:
		if elem := t.Elem(); elem.Kind() == reflect.Struct {
			return nil, errors.New("expected YAML in braces, such as {name: {…}}")
		}
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, p := range parts {
			k, v, ok := strings.Cut(p, "=")
			if !ok {
				return nil, errors.New("expected name=value, separated by commas")
			}
			n.Content = append(n.Content, scalar(strings.TrimSpace(k)), scalar(strings.TrimSpace(v)))
		}
		return n, nil
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return nil, errors.New("expected YAML in brackets, such as [{…}]")
	}
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	for _, p := range parts {
		n.Content = append(n.Content, scalar(p))
	}
	return n, nil
}

// cleanFiles returns the files that were met, sorted and without repeats.
func (d *decoder) cleanFiles() []string {
	slices.Sort(d.files)
	return slices.Compact(d.files)
}
