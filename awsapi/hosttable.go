package awsapi

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"
)

//go:embed tables/hosts.gz
var hostsGz []byte

// hostRow is one line of the host table: a name, or a template of names.
type hostRow struct {
	service    string
	region     string // "{region}": the label; "*": any of the partition
	models     []string
	partitions []string
}

// hostTable maps names and templates to their rows. In templates "{account}",
// "{region}", "{dns}" and "{dual}" stand for what they say. Where a name has
// two rows, it serves services of two signing names.
var hostTable = sync.OnceValue(func() map[string][]hostRow {
	text := mustGunzip(hostsGz)
	table := make(map[string][]hostRow, 2500)
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 {
			panic(fmt.Sprintf("awsapi: host table: malformed line %q", line))
		}
		table[f[0]] = append(table[f[0]], hostRow{f[1], f[2], strings.Split(f[3], ","), strings.Split(f[4], ",")})
	}
	return table
})

// lookupTable finds a name that follows the table: literally, or with one label
// read as a region and perhaps the first as an account.
func lookupTable(name, suffix string) (Host, bool) {
	table := hostTable()
	if rows := table[name]; rows != nil {
		return hostOf(name, rows, "", "")
	}
	stem := strings.TrimSuffix(name, "."+suffix)
	labels := strings.Split(stem, ".")
	account := ""
	if len(labels) > 1 && len(labels[0]) == 12 && allIn(labels[0], isDigit) {
		account = labels[0]
		labels[0] = "{account}"
		if rows := table[strings.Join(labels, ".")+"."+suffix]; rows != nil {
			return hostOf(name, rows, "", account)
		}
	}
	for i, l := range labels {
		p := partitionOf(l)
		if p == nil {
			continue
		}
		token := ""
		switch suffix {
		case p.dns:
			token = "{dns}"
		case p.dual:
			token = "{dual}"
		default:
			continue
		}
		key := slices.Clone(labels)
		key[i] = "{region}"
		rows := table[strings.Join(key, ".")+"."+token]
		if rows == nil {
			continue
		}
		if !slices.Contains(rows[0].partitions, p.id) {
			continue
		}
		return hostOf(name, rows, l, account)
	}
	return Host{}, false
}

func hostOf(name string, rows []hostRow, region, account string) (Host, bool) {
	first := rows[0]
	h := Host{Name: name, Service: first.service, AccountID: account, Models: first.models}
	switch first.region {
	case "{region}":
		h.Region = region
	case "*":
	default:
		h.Region = first.region
	}
	if h.Region != "" {
		h.Partition, _ = PartitionOf(h.Region)
	} else {
		h.Partition = first.partitions[0]
	}
	for _, row := range rows[1:] {
		h.Others = append(h.Others, row.service)
		h.Models = append(slices.Clone(h.Models), row.models...)
	}
	slices.Sort(h.Models)
	first0, _, _ := strings.Cut(name, ".")
	h.FIPS = strings.Contains(name, "-fips.") || strings.HasPrefix(name, "fips-") || strings.Contains(first0, "-fips-") ||
		strings.HasPrefix(name, "fips.") || strings.Contains(name, ".fips.")
	h.DualStack = strings.Contains(name, ".dualstack.") || isDual(name)
	h.S3 = isS3Family(h.Service)
	h.RegionSet = slices.ContainsFunc(v4aServices[:], func(s string) bool { return s == h.Service })
	return h, true
}

func isDual(name string) bool {
	for _, p := range partitions {
		if strings.HasSuffix(name, "."+p.dual) {
			return true
		}
	}
	return false
}

// isS3Family reports whether requests of a signing name follow S3's canonical
// form: the path is taken as it is and encoded once.
func isS3Family(service string) bool {
	switch service {
	case "s3", "s3express", "s3-outposts", "s3-object-lambda":
		return true
	}
	return false
}

// v4aServices may be signed for several regions at once. The endpoint rule
// sets and models name them.
var v4aServices = [...]string{"cloudfront-keyvaluestore", "partnercentral-channel", "s3-outposts", "sts", "sustainability"}
