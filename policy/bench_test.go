package policy

import (
	"fmt"
	"testing"
)

// benchSet has statements of the kinds that roles have: particular actions and prefixes on
// ARNs with wildcards, a third with a condition, some denials.
func benchSet(b *testing.B, n int) *Set {
	var statements []string
	for i := range n {
		service := []string{"dynamodb", "s3", "sqs", "lambda"}[i%4]
		effect, cond := "Allow", ""
		if i%10 == 9 {
			effect = "Deny"
		}
		if i%3 == 0 {
			cond = `,"Condition":{"StringLike":{"aws:PrincipalTag/team":["red*","blue"]},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`
		}
		statements = append(statements, fmt.Sprintf(`{"Effect":%q,"Action":["%s:Get*","%s:Query","%s:List%d*"],"Resource":["arn:aws:%s:eu-west-1:123456789012:table/team-%d-*","arn:aws:%s:*:*:table/shared-%d"]%s}`,
			effect, service, service, service, i, service, i, service, i, cond))
	}
	p, err := Parse("bench", []byte(doc(statements...)))
	if err != nil {
		b.Fatal(err)
	}
	s, err := Compile(Options{Name: "bench", Policies: []*Policy{p}})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{20, 1000} {
		last := (n - 1) / 4 * 4
		for last%10 == 9 || last%3 == 0 {
			last -= 4
		}
		for _, tt := range []struct {
			name string
			q    Query
			want bool
		}{
			{"allowed by the last", ask("dynamodb:GetItem", fmt.Sprintf("arn:aws:dynamodb:eu-west-1:123456789012:table/team-%d-orders", last)), true},
			{"denied", ask("dynamodb:GetItem", "arn:aws:dynamodb:eu-west-1:123456789012:table/nobody"), false},
		} {
			b.Run(fmt.Sprintf("%d statements, %s", n, tt.name), func(b *testing.B) {
				s := benchSet(b, n)
				if d := s.Decide(tt.q); d.Allow != tt.want {
					b.Fatalf("%+v", d)
				}
				b.ReportAllocs()
				for b.Loop() {
					s.Decide(tt.q)
				}
			})
		}
	}
	// The worst: every statement lists the action and matches the resource, and fails
	// at its conditions only.
	b.Run("1000 statements, all as far as their conditions", func(b *testing.B) {
		var statements []string
		for i := range 1000 {
			statements = append(statements, fmt.Sprintf(`{"Effect":"Allow","Action":"dynamodb:*","Resource":"arn:aws:dynamodb:*:123456789012:table/*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"t%d"}}}`, i))
		}
		s := set(b, statements...)
		q := ask("dynamodb:GetItem", "arn:aws:dynamodb:eu-west-1:123456789012:table/orders")
		q.PrincipalTags = map[string]string{"team": "none"}
		b.ReportAllocs()
		for b.Loop() {
			s.Decide(q)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	s := benchSet(b, 1000)
	src := s.policies[0].source
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		if _, err := Parse("bench", src); err != nil {
			b.Fatal(err)
		}
	}
}
