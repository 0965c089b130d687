package awsapi

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// scanXML finds the values of a plan in an XML document, below its root
// element. Elements repeat where they are lists; namespaces are not looked at,
// as S3 does not. A document type definition is refused, since it could define
// what the text means.
func scanXML(body []byte, p *plan) (*found, error) {
	f := newFound(p)
	if len(bytes.TrimSpace(body)) == 0 {
		return f, nil
	}
	d := xml.NewDecoder(bytes.NewReader(body))
	d.Strict = true
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "us-ascii") {
			return in, nil
		}
		return nil, fmt.Errorf("it is in %.32q, not in UTF-8", charset)
	}
	type level struct {
		n            *node
		keys, values int
		text         []byte
		children     bool
	}
	var stack []level
	root := false
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("the XML is malformed: %w", err)
		}
		switch t := t.(type) {
		case xml.Directive:
			return nil, errors.New("the XML has a document type definition")
		case xml.StartElement:
			if len(stack) > maxDepth {
				return nil, errDeep
			}
			var n *node
			if len(stack) == 0 {
				if root {
					return nil, errors.New("the XML has two root elements")
				}
				root, n = true, p.root
			} else {
				top := &stack[len(stack)-1]
				top.children = true
				if top.n != nil && top.n.children != nil {
					n = top.n.children[t.Name.Local]
					if n == nil && top.n.fold[strings.ToLower(t.Name.Local)] {
						return nil, fmt.Errorf("the element %.64q is spelt in an unusual way", t.Name.Local)
					}
				}
			}
			keys, values := f.before(n)
			stack = append(stack, level{n: n, keys: keys, values: values})
		case xml.EndElement:
			top := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			f.after(top.n, top.keys, top.values)
			if top.n != nil && top.n.leaf >= 0 {
				f.add(top.n.leaf, string(top.text))
				f.odd[top.n.leaf] = f.odd[top.n.leaf] || top.children
			}
		case xml.Comment, xml.ProcInst:
			if len(stack) > 0 {
				stack[len(stack)-1].children = true // some readers take the text before it alone
			}
		case xml.CharData:
			if len(stack) > 0 {
				top := &stack[len(stack)-1]
				if top.n != nil && top.n.leaf >= 0 {
					top.text = append(top.text, t...)
				}
			} else if len(bytes.TrimSpace(t)) > 0 {
				return nil, errors.New("the XML has text outside of its root element")
			}
		}
	}
	if !root {
		return nil, errors.New("the XML has no root element")
	}
	return f.whole()
}
