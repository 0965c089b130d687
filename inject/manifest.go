package inject

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Manifests adds the sidecar to every pod of a YAML or JSON stream that asks for
// it, as Object does, and returns the stream as YAML and how many it were. Lists
// of kind List are gone through. Comments and the order of keys are kept, but in
// documents in the notation of JSON, and in those with aliases, where something
// was added.
func Manifests(r io.Reader, opt Options) ([]byte, int, error) {
	in := yaml.NewDecoder(r)
	var out bytes.Buffer
	to := yaml.NewEncoder(&out)
	to.SetIndent(2)
	count := 0
	for number := 1; ; number++ {
		var doc yaml.Node
		err := in.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		var value any
		if err == nil {
			err = doc.Decode(&value)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("document %d: %w", number, err)
		}
		if value == nil {
			continue
		}
		o, ok := value.(object)
		if !ok {
			return nil, 0, fmt.Errorf("document %d is not an object of Kubernetes", number)
		}
		n, err := each(o, opt)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", describe(o, number), err)
		}
		count += n
		var made any = o
		if n == 0 || doc.Content[0].Style&yaml.FlowStyle == 0 && !aliased(&doc) {
			if err := revise(doc.Content[0], o); err != nil {
				return nil, 0, err
			}
			if same, err := means(&doc, o); err != nil {
				return nil, 0, err
			} else if same {
				made = &doc
			}
		}
		if err := to.Encode(made); err != nil {
			return nil, 0, err
		}
	}
	return out.Bytes(), count, to.Close()
}

// means says whether a document will be read as the object that it is to be: the
// encoder does not write every node as it was (a key without a value within
// braces), and what is not changed must not change.
func means(doc *yaml.Node, o object) (bool, error) {
	var read [2]any
	for i, v := range []any{doc, o} {
		text, err := yaml.Marshal(v)
		if err != nil {
			return false, err
		}
		if err := yaml.Unmarshal(text, &read[i]); err != nil {
			return false, nil
		}
	}
	return reflect.DeepEqual(read[0], read[1]), nil
}

// aliased says whether a part of a document stands in several places.
func aliased(n *yaml.Node) bool {
	return n.Kind == yaml.AliasNode || slices.ContainsFunc(n.Content, aliased)
}

// revise makes a node hold a value, and leaves what holds it already as it was
// written: its place among the others, its comments, its style. What is new comes
// after what was there, but in lists, whose order means something.
func revise(n *yaml.Node, value any) error {
	var before any
	if err := n.Decode(&before); err != nil {
		return err
	}
	if reflect.DeepEqual(before, value) {
		return nil
	}
	switch v := value.(type) {
	case object:
		if n.Kind != yaml.MappingNode {
			break
		}
		return reviseObject(n, v)
	case []any:
		if n.Kind != yaml.SequenceNode {
			break
		}
		return reviseList(n, v)
	}
	return replace(n, value)
}

func reviseObject(n *yaml.Node, o object) error {
	var content []*yaml.Node
	there := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		next, ok := o[key.Value]
		if !ok {
			continue
		}
		there[key.Value] = true
		if err := revise(value, next); err != nil {
			return err
		}
		content = append(content, key, value)
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if there[name] {
			continue
		}
		key, value := new(yaml.Node), new(yaml.Node)
		if err := errors.Join(key.Encode(name), value.Encode(o[name])); err != nil {
			return err
		}
		content = append(content, key, value)
	}
	n.Content = content
	n.Style = 0 // what was short enough for one line may be so no more
	return nil
}

// reviseList finds the items that were there by their names: all lists that are
// changed here are of named objects.
func reviseList(n *yaml.Node, list []any) error {
	named := map[any]*yaml.Node{}
	for _, item := range n.Content {
		var o object
		if item.Decode(&o) == nil && o["name"] != nil {
			named[o["name"]] = item
		}
	}
	var content []*yaml.Node
	for _, value := range list {
		o, _ := value.(object)
		item := named[o["name"]]
		if item == nil {
			item = new(yaml.Node)
			if err := item.Encode(value); err != nil {
				return err
			}
		} else if err := revise(item, value); err != nil {
			return err
		}
		delete(named, o["name"])
		content = append(content, item)
	}
	n.Content, n.Style = content, 0
	return nil
}

// replace leaves only the comments of a node.
func replace(n *yaml.Node, value any) error {
	var made yaml.Node
	if err := made.Encode(value); err != nil {
		return err
	}
	made.HeadComment, made.LineComment, made.FootComment = n.HeadComment, n.LineComment, n.FootComment
	*n = made
	return nil
}

// each goes through the items of a List.
func each(o object, opt Options) (int, error) {
	if o["kind"] != "List" {
		changed, err := Object(o, opt)
		if changed {
			return 1, err
		}
		return 0, err
	}
	items, err := list(o, "items")
	if err != nil {
		return 0, err
	}
	count := 0
	for i, item := range items {
		n, err := each(item, opt)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", describe(item, i+1), err)
		}
		count += n
	}
	return count, nil
}

func describe(o object, number int) string {
	metadata, _ := o["metadata"].(object)
	kind, name := o["kind"], metadata["name"]
	if kind == nil || name == nil {
		return fmt.Sprintf("document %d", number)
	}
	return fmt.Sprintf("%v %v", kind, name)
}
