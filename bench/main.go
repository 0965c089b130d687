// Command bench measures what countersign costs beside other ways to the same
// server: no proxy at all, goproxy's own interception with the AWS SDK's signer
// behind it (what such a proxy looks like when it is put together from parts),
// and mitmproxy with botocore's signer. Only countersign verifies what it
// signs, judges it and records it; the others are there to show what the
// machine and the libraries allow.
//
// All run on one machine in one run, on loopback, each in a process of its own,
// round after round in turn. What it prints are ratios of the same round, with
// the smallest and the largest over the rounds; times by themselves say more
// about the machine.
//
//	go run ./bench -countersign bin/countersign [-mitmdump PATH] [-rounds N]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"text/tabwriter"
)

// children are the parts that run in processes of their own, so that their CPU
// time and memory are theirs alone.
var children = map[string]func(settings) error{
	"upstream": serveUpstream,
	"goproxy":  serveGoproxy,
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var (
		program  = flag.String("countersign", "bin/countersign", "the program to measure")
		mitmdump = flag.String("mitmdump", "", "mitmproxy's mitmdump, whose Python has botocore; left out where empty")
		rounds   = flag.Int("rounds", 5, "how often everything is measured; odd numbers have a median")
		scale    = flag.Float64("scale", 1, "how much of each scenario's requests to make")
		only     = flag.String("only", "", "scenarios whose name contains this")
		child    = flag.String("child", "", "for this program's own use")
	)
	flag.Parse()
	if *child != "" {
		s, err := readSettings()
		if err != nil {
			return err
		}
		return children[*child](s)
	}
	if flag.NArg() > 0 || *rounds < 1 || *scale <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "countersign-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ways, closeAll, err := startAll(ctx, dir, *program, *mitmdump)
	defer closeAll()
	if err != nil {
		return err
	}
	fmt.Printf("%s %s/%s, %d CPUs, %d rounds\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), *rounds)
	for _, s := range scenarios {
		if !strings.Contains(s.name, *only) {
			continue
		}
		s.requests = max(s.parallel, int(float64(s.requests)**scale))
		results := make([][]result, len(ways))
		for round := range *rounds {
			for i := range ways {
				// Whoever comes first in a round finds the machine as the one before left it.
				at := (round + i) % len(ways)
				r, err := ways[at].measure(ctx, s)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, ways[at].name, err)
				}
				results[at] = append(results[at], r)
			}
		}
		report(s, ways, results)
	}
	fmt.Println()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "most memory resident")
	for _, w := range ways {
		if w.pid != 0 {
			fmt.Fprintf(table, "  %s\t%s\n", w.name, residentPeak(w.pid))
		}
	}
	return table.Flush()
}
