package mitm

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
)

var answerOf = []byte(`{"UserId":"AROAEXAMPLE:x","Account":"123456789012","Arn":"arn:aws:sts::123456789012:assumed-role/Deploy/x"}`)

func benchHandler(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(answerOf)
}

// Requests on connections that are kept, each answered here.
func BenchmarkInterceptedRequests(b *testing.B) {
	for _, h2 := range []bool{false, true} {
		b.Run(map[bool]string{false: "h1", true: "h2"}[h2], func(b *testing.B) {
			p := startProxy(b, Options{Handler: http.HandlerFunc(benchHandler)})
			client := p.client(h2)
			client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := client.Get("https://sts.us-east-1.amazonaws.com/")
					if err != nil {
						b.Error(err)
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		})
	}
}

// One connection after the other: CONNECT, handshake, one request.
func BenchmarkInterceptedConnections(b *testing.B) {
	p := startProxy(b, Options{Handler: http.HandlerFunc(benchHandler)})
	config := &tls.Config{ServerName: "host.example", RootCAs: testCA().pool}
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			b.Fatal(err)
		}
		fmt.Fprint(c, "CONNECT host.example:443 HTTP/1.1\r\nHost: host.example:443\r\n\r\n")
		if _, err := io.ReadFull(c, make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))); err != nil {
			b.Fatal(err)
		}
		s := tls.Client(c, config)
		io.WriteString(s, "GET / HTTP/1.1\r\nHost: host.example\r\nConnection: close\r\n\r\n")
		if _, err := io.ReadAll(s); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// Uploads through an intercepted connection; memory does not grow with size.
func BenchmarkInterceptedUpload(b *testing.B) {
	const size = 16 << 20
	p := startProxy(b, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })})
	client := p.client(false)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := client.Post("https://host.example/", "", io.LimitReader(zeros{}, size))
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
}

func BenchmarkTunnel(b *testing.B) {
	const size = 16 << 20
	remote := listen(b, func(c net.Conn) {
		for {
			if _, err := io.CopyN(io.Discard, c, size); err != nil {
				return
			}
			io.WriteString(c, ".")
		}
	})
	p := startProxy(b, Options{Route: tunnelRoute})
	c := p.connect(remote)
	b.SetBytes(size)
	for b.Loop() {
		io.CopyN(c, zeros{}, size)
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			b.Fatal(err)
		}
	}
}

// What a connection costs while nothing happens on it, our side and the test's.
func BenchmarkIdleMemory(b *testing.B) {
	const n = 200
	remote := listen(b, func(c net.Conn) { io.ReadAll(c) })
	measure := func(b *testing.B, open func(*proxy) net.Conn) {
		for b.Loop() {
			p := startProxy(b, Options{Route: func(host string, _ int) Route {
				if host == "127.0.0.1" {
					return Route{Action: Tunnel}
				}
				return Route{Action: Intercept, H2: true}
			}})
			before := inUse()
			conns := make([]net.Conn, n)
			for i := range conns {
				conns[i] = open(p)
			}
			b.ReportMetric(float64(inUse()-before)/n, "B/conn")
			runtime.KeepAlive(conns)
		}
	}
	b.Run("client alone", func(b *testing.B) { measure(b, func(p *proxy) net.Conn { return p.dial() }) })
	b.Run("tunnel", func(b *testing.B) { measure(b, func(p *proxy) net.Conn { return p.connect(remote) }) })
	b.Run("h1", func(b *testing.B) {
		measure(b, func(p *proxy) net.Conn {
			c := p.intercepted("host.example:443", "host.example")
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: host.example\r\n\r\n")
			p.response(bufio.NewReader(c))
			return c
		})
	})
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
