package policy

import (
	"strings"

	"github.com/countersign-proxy/countersign/awsapi"
)

// Catalog says which actions and condition keys there are: the Service
// Authorization Reference.
type Catalog interface {
	// Prefixes lists the service prefixes of actions ("s3").
	Prefixes() []string
	// Service describes one prefix, in lower case; false when there is none.
	Service(prefix string) (CatalogService, bool)
}

// AWS is the catalog of the tables in awsapi. Its values are built on each call.
func AWS() Catalog { return tables{} }

type tables struct{}

func (tables) Prefixes() []string { return awsapi.ActionPrefixes() }

func (tables) Service(prefix string) (CatalogService, bool) {
	names := awsapi.ActionsOf(prefix)
	if names == nil {
		return CatalogService{}, false
	}
	s := CatalogService{Actions: make(map[string]CatalogAction, len(names)), Keys: make(map[string]string)}
	for _, name := range names {
		a, ok := awsapi.LookupAction(name)
		if !ok {
			continue
		}
		c := CatalogAction{Level: a.AccessLevel}
		for _, r := range a.Resources {
			c.Resources = append(c.Resources, r.ARN)
		}
		_, short, _ := strings.Cut(a.Name, ":")
		s.Actions[short] = c
	}
	for _, k := range awsapi.ConditionKeysOf(prefix) {
		s.Keys[k.Name] = k.Type
	}
	return s, true
}

// CatalogService is one service prefix.
type CatalogService struct {
	Actions map[string]CatalogAction // by name as AWS spells it ("GetObject")
	// Keys are the condition keys of the service with their types ("String",
	// "ArrayOfString", "Bool", "Numeric", "Date", "ARN", "IPAddress" …), spelled as AWS
	// does; "${TagKey}" stands for anything.
	Keys map[string]string
}

// CatalogAction is one action.
type CatalogAction struct {
	Level string
	// Resources are ARN templates with ${…} for what varies; none means that the
	// action is for Resource "*" alone.
	Resources []string
}

// keyType is what a condition key holds.
type keyType struct {
	family family
	multi  bool
}

// globalKeys are the global condition keys with their types
// (reference_policies_condition-keys). A key that ends in / goes on with a tag's key.
var globalKeys = map[string]keyType{
	"aws:assumedroot":                  {family: familyString},
	"aws:calledvia":                    {family: familyString, multi: true},
	"aws:calledviafirst":               {family: familyString},
	"aws:calledvialast":                {family: familyString},
	"aws:chatbotsourcearn":             {family: familyARN},
	"aws:currenttime":                  {family: familyDate},
	"aws:ec2instancesourceprivateipv4": {family: familyIP},
	"aws:ec2instancesourcevpc":         {family: familyString},
	"aws:epochtime":                    {family: familyDate},
	"aws:federatedprovider":            {family: familyString},
	"aws:multifactorauthage":           {family: familyNumeric},
	"aws:multifactorauthpresent":       {family: familyBool},
	"aws:principalaccount":             {family: familyString},
	"aws:principalarn":                 {family: familyARN},
	"aws:principalisawsservice":        {family: familyBool},
	"aws:principalorgid":               {family: familyString},
	"aws:principalorgpaths":            {family: familyString, multi: true},
	"aws:principalservicename":         {family: familyString},
	"aws:principalservicenameslist":    {family: familyString, multi: true},
	"aws:principaltag/":                {family: familyString},
	"aws:principaltype":                {family: familyString},
	"aws:referer":                      {family: familyString},
	"aws:requestedregion":              {family: familyString},
	"aws:requesttag/":                  {family: familyString},
	"aws:resourceaccount":              {family: familyString},
	"aws:resourceorgid":                {family: familyString},
	"aws:resourceorgpaths":             {family: familyString, multi: true},
	"aws:resourcetag/":                 {family: familyString},
	"aws:securetransport":              {family: familyBool},
	"aws:sourceaccount":                {family: familyString},
	"aws:sourcearn":                    {family: familyARN},
	"aws:sourceidentity":               {family: familyString},
	"aws:sourceip":                     {family: familyIP},
	"aws:sourceorgid":                  {family: familyString},
	"aws:sourceorgpaths":               {family: familyString, multi: true},
	"aws:sourcevpc":                    {family: familyString},
	"aws:sourcevpcarn":                 {family: familyARN},
	"aws:sourcevpce":                   {family: familyString},
	"aws:tagkeys":                      {family: familyString, multi: true},
	"aws:tokenissuetime":               {family: familyDate},
	"aws:useragent":                    {family: familyString},
	"aws:userid":                       {family: familyString},
	"aws:username":                     {family: familyString},
	"aws:viaawsservice":                {family: familyBool},
	"aws:vpceaccount":                  {family: familyString},
	"aws:vpceorgid":                    {family: familyString},
	"aws:vpceorgpaths":                 {family: familyString, multi: true},
	"aws:vpcsourceip":                  {family: familyIP},
	"aws:signinsessionarn":             {family: familyARN},
	"aws:viaawsmcpservice":             {family: familyBool},
}

// keyOf finds the type of a lower-case key; known is false when the key is not in
// the tables, decided is false when there are no tables to look in.
func keyOf(catalog Catalog, key string) (t keyType, known, decided bool) {
	prefix, _, _ := strings.Cut(key, ":")
	if prefix == "aws" {
		if t, ok := globalKeys[key]; ok {
			return t, true, true
		}
		if slash := strings.IndexByte(key, '/'); slash > 0 {
			if t, ok := globalKeys[key[:slash+1]]; ok && len(key) > slash+1 {
				return t, true, true
			}
		}
		return keyType{}, false, true
	}
	if catalog == nil {
		return keyType{}, false, false
	}
	service, ok := catalog.Service(prefix)
	if !ok {
		return keyType{}, false, identityProvider(prefix) == ""
	}
	for name, typ := range service.Keys {
		low := strings.ToLower(name)
		if at := strings.Index(low, "${"); at >= 0 {
			if !strings.HasPrefix(key, low[:at]) || len(key) <= at {
				continue
			}
		} else if low != key {
			continue
		}
		base, multi := strings.CutPrefix(strings.ToLower(typ), "arrayof")
		t.multi = multi
		switch base {
		case "bool", "boolean":
			t.family = familyBool
		case "numeric", "long", "integer":
			t.family = familyNumeric
		case "date":
			t.family = familyDate
		case "arn":
			t.family = familyARN
		case "ipaddress":
			t.family = familyIP
		case "binary":
			t.family = familyBinary
		}
		return t, true, true
	}
	return keyType{}, false, true
}

// identityProvider names the kind of provider whose keys have a prefix of their
// own; "" when the prefix is none.
func identityProvider(prefix string) string {
	switch {
	case prefix == "saml":
		return "SAML"
	case strings.Contains(prefix, "."): // token.actions.githubusercontent.com:sub
		return "OIDC"
	}
	return ""
}
