package awsapi

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// dynamodbTable adds a table that is given by name or ARN.
func dynamodbTable(c *Call, n *Need, table string) {
	if strings.HasPrefix(table, "arn:") {
		f := strings.SplitN(table, ":", 6)
		if len(f) == 6 && f[2] == "dynamodb" && strings.HasPrefix(f[5], "table/") {
			n.add(table)
			return
		}
		n.ResourceUnknown = true
		return
	}
	arn, whole := c.arnOf("dynamodb", "table/"+table)
	if !whole || strings.ContainsAny(table, ":/*?") || table == "" {
		n.ResourceUnknown = true
		return
	}
	n.add(arn)
}

// dynamodbBatch: the tables are the names of RequestItems' members.
func dynamodbBatch(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	n := Need{Action: needs[0].Action}
	w := m.op.special[0][0]
	if rq.found == nil || len(rq.found.maps[w.index]) == 0 || rq.found.values[w.index] != nil {
		return []Need{{Action: n.Action, ResourceUnknown: true}}, nil
	}
	for _, p := range rq.found.maps[w.index] {
		dynamodbTable(c, &n, p[0])
	}
	return []Need{n}, nil
}

func dynamodbTransact(rq *request, c *Call, m match, _ []Need) ([]Need, error) {
	actions := []string{"dynamodb:GetItem"}
	if m.op.name == "TransactWriteItems" {
		actions = []string{"dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"}
	}
	var needs []Need
	for i, a := range actions {
		tables, st := rq.get(m.op.special[i])
		if st == absent {
			continue
		}
		n := Need{Action: a, ResourceUnknown: st == odd}
		for _, t := range tables {
			dynamodbTable(c, &n, t)
		}
		needs = append(needs, n)
	}
	if needs == nil {
		return nil, errors.New("the transaction names no table")
	}
	return needs, nil
}

// dynamodbStatement takes the verb of PartiQL statements; the table stays open.
func dynamodbStatement(rq *request, c *Call, m match, all []Need) ([]Need, error) {
	// A statement may name its table by ARN, in another account.
	const any = "arn:*:dynamodb:*:*:table/*"
	statements, st := rq.get(m.op.special[0])
	verbs := map[string]string{"SELECT": "Select", "INSERT": "Insert", "UPDATE": "Update", "DELETE": "Delete"}
	var needs []Need
	for _, s := range statements {
		words := strings.Fields(s)
		if len(words) == 0 || verbs[strings.ToUpper(words[0])] == "" {
			st = odd
			break
		}
		n := put("dynamodb:PartiQL"+verbs[strings.ToUpper(words[0])], any, false)
		if !slices.ContainsFunc(needs, func(have Need) bool { return have.Action == n.Action }) {
			needs = append(needs, n)
		}
	}
	if st != present {
		for i := range all {
			all[i] = put(all[i].Action, any, false)
		}
		return all, nil
	}
	return needs, nil
}

// dynamodbIndex: a query of an index needs the index alone.
func dynamodbIndex(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	n := Need{Action: needs[0].Action}
	at := m.op.special[len(m.op.special)-2:]
	tables, st := rq.get(at[0])
	index, ist := rq.get(at[1])
	if st != present || len(tables) != 1 || ist == odd || len(index) > 1 {
		return []Need{{Action: n.Action, ResourceUnknown: true}}, nil
	}
	dynamodbTable(c, &n, tables[0])
	if len(index) == 1 && len(n.Resources) == 1 {
		n.Resources[0] += "/index/" + index[0]
	}
	return []Need{n}, nil
}

// dynamodbItemPaths are what the conditions on attributes are worked out from.
func dynamodbItemPaths(item string) []string {
	return []string{item, "j:ExpressionAttributeNames", "j:ExpressionAttributeValues", "j:AttributesToGet", "j:ProjectionExpression",
		"j:ConditionExpression", "j:UpdateExpression", "j:FilterExpression", "j:KeyConditionExpression",
		"j:AttributeUpdates", "j:Expected", "j:KeyConditions", "j:QueryFilter"}
}

// dynamodbItem sets dynamodb:Attributes and dynamodb:LeadingKeys. The request
// does not say which attribute is the partition key: with a key of one
// attribute it is that one, else the leading key stays unknown.
func dynamodbItem(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	keys := rq.mapAt(m.op.special[0])
	rq.dynamodbAttributes(c, m, keys)
	if m.op.name != "PutItem" && len(keys) == 1 {
		if v, ok := attributeValue(keys[0][1]); ok {
			c.Conditions["dynamodb:leadingkeys"] = []string{v}
		}
	}
	return needs, nil
}

// dynamodbQuery: the partition key is the one that must be equal to something.
func dynamodbQuery(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	rq.dynamodbAttributes(c, m, rq.mapAt(m.op.special[0]))
	if v, ok := rq.leadingKey(m); ok {
		c.Conditions["dynamodb:leadingkeys"] = []string{v}
	}
	return dynamodbIndex(rq, c, m, needs)
}

// leadingKey finds the only "name = :value" of a key condition.
func (rq *request) leadingKey(m match) (string, bool) {
	text, st := rq.get(m.op.special[8])
	if st != present || len(text) != 1 {
		return "", false
	}
	value, equal := "", 0
	tokens := expressionTokens(text[0])
	for i, t := range tokens {
		if t != "=" {
			continue
		}
		equal++
		for _, j := range [...]int{i - 1, i + 1} {
			if j >= 0 && j < len(tokens) && strings.HasPrefix(tokens[j], ":") {
				value = tokens[j]
			}
		}
	}
	if equal != 1 || value == "" {
		return "", false
	}
	for _, p := range rq.mapAt(m.op.special[2]) {
		if p[0] == value {
			return attributeValue(p[1])
		}
	}
	return "", false
}

// mapAt returns the members of an object in the body, as text.
func (rq *request) mapAt(at member) [][2]string {
	if rq.found == nil || at[0].kind != rq.kind {
		return nil
	}
	return rq.found.maps[at[0].index]
}

// attributeValue reads {"S":"x"}, {"N":"1"} or {"B":"…"}.
func attributeValue(text string) (string, bool) {
	var v map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &v) != nil || len(v) != 1 {
		return "", false
	}
	for _, kind := range [...]string{"S", "N", "B"} {
		var s string
		if raw, ok := v[kind]; ok && json.Unmarshal(raw, &s) == nil {
			return s, true
		}
	}
	return "", false
}

// dynamodbAttributes sets dynamodb:Attributes: the top-level attributes that
// the request names. The parameters of before expressions leave it unknown.
func (rq *request) dynamodbAttributes(c *Call, m match, item [][2]string) {
	for _, at := range m.op.special[9:13] {
		if rq.mapAt(at) != nil {
			return
		}
	}
	names := make([]string, 0, len(item)+8)
	add := func(name string) { names = append(names, name) }
	for _, p := range item {
		add(p[0])
	}
	listed, st := rq.get(m.op.special[3])
	if st == odd {
		return
	}
	for _, n := range listed {
		add(n)
	}
	var alias map[string]string
	if aliases := rq.mapAt(m.op.special[1]); len(aliases) > 0 {
		alias = make(map[string]string, len(aliases))
		for _, p := range aliases {
			alias[p[0]] = p[1]
		}
	}
	for _, at := range m.op.special[4:9] {
		expressions, st := rq.get(at)
		if st == odd {
			return
		}
		for _, e := range expressions {
			tokens := expressionTokens(e)
			for i, t := range tokens {
				switch {
				case strings.HasPrefix(t, ":") || !isNameByte(t[0]) && t[0] != '#', isDigit(t[0]):
				case i > 0 && tokens[i-1] == ".", i+1 < len(tokens) && tokens[i+1] == "(", expressionWords[strings.ToUpper(t)]:
				case t[0] == '#':
					name, ok := alias[t]
					if !ok {
						return
					}
					add(name)
				default:
					add(t)
				}
			}
		}
	}
	if names != nil {
		slices.Sort(names)
		c.Conditions["dynamodb:attributes"] = slices.Compact(names)
	}
}

var expressionWords = map[string]bool{"AND": true, "OR": true, "NOT": true, "BETWEEN": true, "IN": true, "SET": true, "REMOVE": true, "ADD": true, "DELETE": true}

func isNameByte(c byte) bool {
	return isLower(c) || 'A' <= c && c <= 'Z' || isDigit(c) || c == '_' || c == '-'
}

// expressionTokens cuts a DynamoDB expression into names and signs.
func expressionTokens(s string) []string {
	var out []string
	for i := 0; i < len(s); {
		j := i + 1
		if isNameByte(s[i]) || s[i] == '#' || s[i] == ':' {
			for j < len(s) && isNameByte(s[j]) {
				j++
			}
		}
		if t := s[i:j]; strings.TrimSpace(t) != "" {
			out = append(out, t)
		}
		i = j
	}
	return out
}
