package sandbox

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// table is a DynamoDB table with a hash key alone or a hash and a range key.
type table struct {
	schema     []keyElement
	attributes json.RawMessage
	created    int64
	items      map[string]map[string]json.RawMessage // by canonical key
}

type keyElement struct{ AttributeName, KeyType string }

var tableName = regexp.MustCompile(`^[A-Za-z0-9_.-]{3,255}$`)

// serveDynamoDB answers enough of a JSON protocol for a program to put
// something somewhere and find it again.
// docs.aws.amazon.com/amazondynamodb/latest/APIReference
func (s *Server) serveDynamoDB(w http.ResponseWriter, c *call) error {
	target := c.Header.Get("X-Amz-Target")
	operation, ok := strings.CutPrefix(target, "DynamoDB_20120810.")
	serve := map[string]func(*call, *tableInput) (any, error){
		"ListTables": s.listTables, "CreateTable": s.createTable, "DescribeTable": s.describeTable, "DeleteTable": s.deleteTable,
		"PutItem": s.putItem, "GetItem": s.getItem, "DeleteItem": s.deleteItem,
	}[operation]
	if !ok || serve == nil || c.Method != http.MethodPost {
		return &apiError{400, "UnknownOperationException", "the sandbox's DynamoDB has no " + strconv.Quote(target)}
	}
	c.record.Operation = operation
	in := new(tableInput)
	if err := json.Unmarshal(c.body, in); err != nil {
		return &apiError{400, "SerializationException", "the body is not the JSON that the operation takes"}
	}
	s.mu.Lock()
	out, err := serve(c, in)
	var body []byte
	if err == nil {
		body, err = json.Marshal(out) // while nobody changes the items
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(http.StatusOK)
	w.Write(body)
	return nil
}

type tableInput struct {
	TableName            string
	KeySchema            []keyElement
	AttributeDefinitions json.RawMessage
	Item, Key            map[string]json.RawMessage
}

type itemOutput struct {
	Item map[string]json.RawMessage `json:",omitempty"`
}

func (s *Server) find(in *tableInput) (*table, error) {
	t := s.tables[in.TableName]
	if t == nil {
		return nil, &apiError{400, "ResourceNotFoundException", "Requested resource not found: Table: " + in.TableName + " not found"}
	}
	return t, nil
}

// key is the item's key in one string; attributes beyond the schema's are
// allowed in items and refused in keys.
func (t *table) key(attributes map[string]json.RawMessage, exact bool) (string, error) {
	var parts []json.RawMessage
	for _, k := range t.schema {
		value, ok := attributes[k.AttributeName]
		if !ok {
			return "", &apiError{400, "ValidationException", "One or more parameter values were invalid: Missing the key " + k.AttributeName + " in the item"}
		}
		parts = append(parts, value)
	}
	if exact && len(attributes) != len(t.schema) {
		return "", &apiError{400, "ValidationException", "The provided key element does not match the schema"}
	}
	b, err := json.Marshal(parts) // compacts
	return string(b), err
}

func (s *Server) listTables(*call, *tableInput) (any, error) {
	names := slices.Sorted(maps.Keys(s.tables))
	if names == nil {
		names = []string{}
	}
	return map[string]any{"TableNames": names}, nil
}

func (s *Server) createTable(c *call, in *tableInput) (any, error) {
	hashes := 0
	for _, k := range in.KeySchema {
		if k.KeyType == "HASH" {
			hashes++
		}
	}
	if !tableName.MatchString(in.TableName) || hashes != 1 || len(in.KeySchema) > 2 {
		return nil, &apiError{400, "ValidationException", "1 validation error detected: a table needs a name of 3 to 255 characters and a key schema with one HASH and at most one RANGE key"}
	}
	if s.tables[in.TableName] != nil {
		return nil, &apiError{400, "ResourceInUseException", "Table already exists: " + in.TableName}
	}
	if len(s.tables) >= maxContainers {
		return nil, &apiError{400, "LimitExceededException", "the sandbox has too many tables"}
	}
	s.tables[in.TableName] = &table{schema: in.KeySchema, attributes: in.AttributeDefinitions, created: c.now.Unix(), items: map[string]map[string]json.RawMessage{}}
	return s.describe("TableDescription", c, in.TableName), nil
}

func (s *Server) describe(name string, c *call, of string) any {
	t := s.tables[of]
	return map[string]any{name: map[string]any{
		"TableName": of, "TableStatus": "ACTIVE", "KeySchema": t.schema, "AttributeDefinitions": t.attributes, "ItemCount": len(t.items),
		"CreationDateTime": t.created, "TableArn": "arn:aws:dynamodb:" + c.record.Region + ":" + s.options.Account + ":table/" + of,
	}}
}

func (s *Server) describeTable(c *call, in *tableInput) (any, error) {
	if _, err := s.find(in); err != nil {
		return nil, err
	}
	return s.describe("Table", c, in.TableName), nil
}

func (s *Server) deleteTable(c *call, in *tableInput) (any, error) {
	t, err := s.find(in)
	if err != nil {
		return nil, err
	}
	out := s.describe("TableDescription", c, in.TableName)
	for _, item := range t.items {
		s.stored -= size(item)
	}
	delete(s.tables, in.TableName)
	return out, nil
}

func size(item map[string]json.RawMessage) (n int64) {
	for name, value := range item {
		n += int64(len(name) + len(value))
	}
	return n
}

func (s *Server) putItem(_ *call, in *tableInput) (any, error) {
	t, err := s.find(in)
	if err != nil {
		return nil, err
	}
	key, err := t.key(in.Item, false)
	if err != nil {
		return nil, err
	}
	old, had := t.items[key]
	grown := s.stored + size(in.Item) - size(old)
	if size(in.Item) > 400<<10 {
		return nil, &apiError{400, "ValidationException", "Item size has exceeded the maximum allowed size"}
	}
	if grown > maxStored || !had && len(t.items) >= maxItems {
		return nil, &apiError{400, "LimitExceededException", "the sandbox is full"}
	}
	s.stored = grown
	t.items[key] = in.Item
	return struct{}{}, nil
}

func (s *Server) getItem(_ *call, in *tableInput) (any, error) {
	t, err := s.find(in)
	if err != nil {
		return nil, err
	}
	key, err := t.key(in.Key, true)
	if err != nil {
		return nil, err
	}
	return itemOutput{Item: t.items[key]}, nil
}

func (s *Server) deleteItem(_ *call, in *tableInput) (any, error) {
	t, err := s.find(in)
	if err != nil {
		return nil, err
	}
	key, err := t.key(in.Key, true)
	if err != nil {
		return nil, err
	}
	s.stored -= size(t.items[key])
	delete(t.items, key)
	return struct{}{}, nil
}
