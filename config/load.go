package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// Options says where the configuration comes from.
type Options struct {
	// Path is the file. "": that of the variable COUNTERSIGN_CONFIG, else none:
	// then defaults, variables and flags are all there is.
	Path string
	// Env is the environment as os.Environ has it; nil: that of the process.
	Env []string
	// Flags are settings given on the command line, by key ("log.level"); they
	// are written like variables and win over them.
	Flags map[string]string
	// Home is what ~ stands for; "": the home directory of the user, if there is one.
	Home string
	// Dir is where relative paths of variables and flags start; "": the working directory.
	Dir string
}

// maxFile bounds the configuration file.
const maxFile = 1 << 20

// Load reads and validates the whole configuration. Its error is Problems when
// the configuration is wrong, and then it holds everything that is.
func Load(o Options) (*Config, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if o.Path == "" {
		return build(o, "", nil)
	}
	src, err := readFile(o.Path)
	if err != nil {
		return nil, err
	}
	return build(o, o.Path, src)
}

func (o Options) withDefaults() (Options, error) {
	if o.Env == nil {
		o.Env = os.Environ()
	}
	if o.Home == "" {
		o.Home, _ = os.UserHomeDir() // "~" is refused where there is none
	}
	if o.Dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return o, fmt.Errorf("configuration: working directory: %w", err)
		}
		o.Dir = dir
	}
	if o.Path == "" {
		for _, kv := range o.Env {
			if path, ok := strings.CutPrefix(kv, pathVariable+"="); ok {
				o.Path = path
			}
		}
	}
	return o, nil
}

const pathVariable = envPrefix + "CONFIG"

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("configuration: %s does not exist; write one with: countersign config example", path)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("configuration: %s is a directory; expected a YAML file", path)
	}
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(src) > maxFile {
		return nil, fmt.Errorf("configuration: %s is larger than %v", path, Size(maxFile))
	}
	return src, nil
}

// build makes a Config out of the text of a file that is called name.
func build(o Options, name string, src []byte) (*Config, error) {
	abs := ""
	dir := o.Dir
	if name != "" {
		abs = name
		if !filepath.IsAbs(abs) {
			abs = filepath.Join(o.Dir, abs)
		}
		dir = filepath.Dir(abs)
	}
	newDecoder := func() *decoder {
		return &decoder{file: name, dir: dir, cwd: o.Dir, home: o.Home,
			given: map[*yaml.Node]string{}, at: map[string]place{}}
	}

	root, problem := readTree(name, src)
	if problem != nil {
		return nil, Problems{*problem}
	}

	// The file by itself first, so that a mistake is found even where a
	// variable hides it.
	alone := newDecoder()
	alone.value(reflect.ValueOf(&Config{}).Elem(), root, "", "", place{})

	d := newDecoder()
	d.at = alone.at // where sections stand
	l := layers{d: d, viper: viper.New(), file: root}
	l.environment(o.Env)
	l.flags(o.Flags)
	c := &Config{Path: abs, blank: abs != "" && len(src) == 0}
	d.value(reflect.ValueOf(c).Elem(), l.merged(), "", "", place{})
	c.roleOrder = d.order
	d.defaults(c)
	d.check(c)

	if ps := append(alone.problems, d.problems...).sorted(); len(ps) > 0 {
		return nil, ps
	}
	if abs != "" {
		d.files = append(d.files, abs)
	}
	c.files = d.cleanFiles()
	return c, nil
}

// readTree reads YAML into its tree; a file without content is an empty map.
func readTree(name string, src []byte) (*yaml.Node, *Problem) {
	empty := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1, Column: 1}
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc, next yaml.Node
	if err := dec.Decode(&doc); err == io.EOF {
		return empty, nil
	} else if err != nil {
		return nil, syntaxProblem(name, err)
	}
	if err := dec.Decode(&next); err == nil {
		return nil, &Problem{File: name, Line: next.Line, Col: max(next.Column, 1), Message: "a second document begins here (---); expected one"}
	} else if err != io.EOF {
		return nil, syntaxProblem(name, err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		return empty, nil
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return empty, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, &Problem{File: name, Line: root.Line, Col: root.Column, Message: "expected keys and values at the top, such as listen: 127.0.0.1:8800"}
	}
	return root, nil
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

func yamlMessage(err error) string {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	return strings.ReplaceAll(msg, "\n", " ")
}

func syntaxProblem(name string, err error) *Problem {
	p := &Problem{File: name, Line: 1, Col: 1, Message: yamlMessage(err)}
	if m := yamlLine.FindStringSubmatch(p.Message); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.Message = p.Message[len(m[0]):]
	}
	p.Message = "this is not YAML: " + p.Message
	if strings.Contains(p.Message, "cannot start any token") {
		p.Message += "; expected spaces and no tabs, and quotes around what begins with @, ` or %"
	}
	return p
}

// layers puts defaults, file, variables and flags in order. A setting with a
// fixed key is one value of viper; the maps whose names users choose (roles,
// identities) are one value each.
type layers struct {
	d     *decoder
	viper *viper.Viper
	file  *yaml.Node
}

// leafTypes holds the Go type of every setting with a fixed key.
var leafTypes = func() map[string]reflect.Type {
	m := map[string]reflect.Type{}
	var walk func(t reflect.Type, key string)
	walk = func(t reflect.Type, key string) {
		for i := range t.NumField() {
			f := t.Field(i)
			name := f.Tag.Get("key")
			if name == "" {
				continue
			}
			child := join(key, name)
			if byKey[child] == nil && f.Type.Kind() == reflect.Struct {
				walk(f.Type, child)
				continue
			}
			m[child] = f.Type
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return m
}()

// namedTypes holds the Go type of what may be set below a name, by the map it is in.
var namedTypes = map[string]reflect.Type{
	"roles":      reflect.TypeFor[Role](),
	"identities": reflect.TypeFor[Identity](),
}

// merged returns the tree of the values that win.
func (l *layers) merged() *yaml.Node {
	_ = l.viper.MergeConfigMap(leaves(l.file, ""))
	root := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: l.file.Line, Column: l.file.Column}
	for _, s := range settings {
		n, ok := l.viper.Get(s.Key).(*yaml.Node)
		if !ok {
			continue // left to the default
		}
		at := root
		sections := strings.Split(s.Key, ".")
		last := len(sections) - 1
		for _, name := range sections[:last] {
			at = child(at, name)
		}
		at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: sections[last], Line: n.Line, Column: n.Column}, n)
	}
	return root
}

// child returns the map called name in n, made if it is not there.
func child(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	c := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}, c)
	return c
}

// leaves returns the settings with fixed keys below n, for viper. What is not
// one of them, or has another shape, has been complained about already.
func leaves(n *yaml.Node, key string) map[string]any {
	m := map[string]any{}
	if n.Kind != yaml.MappingNode {
		return m
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, v := n.Content[i].Value, n.Content[i+1]
		full := join(key, name)
		if strings.Contains(name, ".") {
			continue
		}
		if _, ok := leafTypes[full]; ok {
			if _, twice := m[name]; !twice {
				m[name] = v
			}
		} else if sub := leaves(v, full); len(sub) > 0 {
			m[name] = sub
		}
	}
	return m
}

// environment takes the variables that begin with COUNTERSIGN_.
func (l *layers) environment(env []string) {
	values := map[string]string{}
	for _, kv := range env {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || !strings.HasPrefix(name, envPrefix) || name == pathVariable {
			continue
		}
		values[name] = value
	}
	// Whole maps before what stands below one name in them.
	names := slices.Sorted(maps.Keys(values))
	slices.SortStableFunc(names, func(a, b string) int { return len(a) - len(b) })
	for _, name := range names {
		value := values[name]
		key, problem := l.keyOf(name)
		if key == "" {
			if !serviceLink(name, value) {
				l.d.problemAt(place{name: name}, "", "%s", problem)
			}
			continue
		}
		// An empty variable is what scripts and manifests leave where there is
		// no value; it does not clear anything.
		if value != "" {
			l.set(key, name, value)
		}
	}
}

// flags takes the settings of the command line.
func (l *layers) flags(flags map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(flags)) {
		if _, ok := leafTypes[key]; !ok {
			l.d.problemAt(place{name: "--" + key}, key, "there is no such key; %s", suggest(key, "", slices.Sorted(maps.Keys(leafTypes))))
			continue
		}
		l.set(key, "--"+key, flags[key])
	}
}

// set puts a text from a variable or flag above the file.
func (l *layers) set(key, from, text string) {
	t, ok := leafTypes[key]
	var mapName, name, field string
	if !ok {
		parts := strings.SplitN(key, "\x00", 3)
		mapName, name, field = parts[0], parts[1], parts[2]
		t = fieldType(namedTypes[mapName], field)
		key = mapName + "." + name + "." + field
	}
	n, err := textNode(t, text)
	if err != nil {
		l.d.problemAt(place{name: from}, key, "%v", err)
		return
	}
	l.d.given[n] = from
	if ok {
		l.viper.Set(key, n)
		return
	}
	l.viper.Set(mapName, graft(l.current(mapName), name, field, n))
}

// current returns the map of names as it is so far.
func (l *layers) current(mapName string) *yaml.Node {
	if n, ok := l.viper.Get(mapName).(*yaml.Node); ok {
		return n
	}
	if n, ok := leaves(l.file, "")[mapName].(*yaml.Node); ok {
		return n
	}
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
}

// graft returns a copy of a map of maps with one value in it replaced or added.
// The place of a map that was only made for it is that of the value.
func graft(m *yaml.Node, name, field string, value *yaml.Node) *yaml.Node {
	put := func(n *yaml.Node, key string, v *yaml.Node) *yaml.Node {
		c := *n
		if c.Kind != yaml.MappingNode {
			return &c // complained about in the file
		}
		c.Content = slices.Clone(n.Content)
		for i := 0; i+1 < len(c.Content); i += 2 {
			if c.Content[i].Value == key {
				c.Content[i+1] = v
				return &c
			}
		}
		c.Content = append(c.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, v)
		return &c
	}
	entry := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name {
			entry = m.Content[i+1]
		}
	}
	return put(m, name, put(entry, field, value))
}

func fieldType(t reflect.Type, key string) reflect.Type {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("key") == key {
			return t.Field(i).Type
		}
	}
	return nil
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		names = append(names, t.Field(i).Tag.Get("key"))
	}
	return names
}

// keyOf returns the key that a variable sets; below a map of names the three
// parts are separated by NUL. If there is none it says what was expected.
//
// COUNTERSIGN_ROLES_DEPLOY_SESSION_NAME is roles, deploy, session_name: the
// longest key at the end counts, and the name before it is that of the file
// which is the same in capitals with every other character replaced by "_". A
// name that the file does not have is taken in lower case.
func (l *layers) keyOf(variable string) (key, problem string) {
	rest := strings.TrimPrefix(variable, envPrefix)
	known := map[string]string{}
	for k := range leafTypes {
		known[envForm(k)] = k
	}
	if k, ok := known[rest]; ok {
		return k, ""
	}
	for _, mapName := range slices.Sorted(maps.Keys(namedTypes)) {
		named, ok := strings.CutPrefix(rest, envForm(mapName)+"_")
		if !ok {
			continue
		}
		fields := fieldNames(namedTypes[mapName])
		slices.SortFunc(fields, func(a, b string) int { return len(b) - len(a) })
		for _, field := range fields {
			name, ok := strings.CutSuffix(named, "_"+envForm(field))
			if !ok || name == "" {
				continue
			}
			var matches []string
			current := l.current(mapName)
			for i := 0; i+1 < len(current.Content); i += 2 {
				if n := current.Content[i].Value; envForm(n) == name {
					matches = append(matches, n)
				}
			}
			switch len(matches) {
			case 0:
				return mapName + "\x00" + strings.ToLower(name) + "\x00" + field, ""
			case 1:
				return mapName + "\x00" + matches[0] + "\x00" + field, ""
			}
			return "", fmt.Sprintf("it could mean any of %s in %s; set the key in the file", strings.Join(matches, ", "), mapName)
		}
		return "", fmt.Sprintf("there is no such key; expected %s%s_NAME_KEY, where KEY is one of %s",
			envPrefix, envForm(mapName), strings.ToUpper(strings.Join(fieldNames(namedTypes[mapName]), ", ")))
	}
	if best := nearest(rest, slices.Sorted(maps.Keys(known))); best != "" {
		return "", "there is no such key; did you mean " + envPrefix + best + "?"
	}
	return "", "there is no such key; see: countersign config example"
}

// envForm writes a key or a name as in a variable.
func envForm(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
}

var (
	linkName    = regexp.MustCompile(`^COUNTERSIGN(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)
	linkAddress = regexp.MustCompile(`^([0-9a-fA-F.:]+|(tcp|udp|sctp)(://[0-9a-fA-F.:\[\]]+)?)$`)
)

// serviceLink reports whether a variable is one of those that Kubernetes sets
// in every pod for a Service called countersign or countersign-…
// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
// They are nobody's mistake.
func serviceLink(name, value string) bool {
	return linkName.MatchString(name) && linkAddress.MatchString(value)
}
