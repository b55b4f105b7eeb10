// The yardstick: net/http/httputil.ReverseProxy, round robin over the backends given on the command line.
//
//	go-proxy [-pool] [-tls PEM] 127.0.0.1:8080 127.0.0.1:8081 127.0.0.1:8082
//
// Idle connections are kept (Go's default is two per backend) and answers are not decompressed. Without -pool it
// makes a 32 kB copy buffer for each answer, as ReverseProxy does unless it is given a BufferPool.
package main

import (
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"
)

type buffers struct{ sync.Pool }

func (b *buffers) Get() []byte  { return *b.Pool.Get().(*[]byte) }
func (b *buffers) Put(x []byte) { b.Pool.Put(&x) }

func main() {
	pool := flag.Bool("pool", false, "take copy buffers from a pool")
	pem := flag.String("tls", "", "certificate and key: speak TLS, and HTTP/2 with who offers it")
	flag.Parse()
	if flag.NArg() < 2 {
		log.Fatal("usage: go-proxy [-pool] [-tls PEM] LISTEN BACKEND...")
	}
	backends := flag.Args()[1:]
	var next uint64
	proxy := &httputil.ReverseProxy{
		Director: func(r *http.Request) {
			r.URL.Scheme = "http"
			r.URL.Host = backends[atomic.AddUint64(&next, 1)%uint64(len(backends))]
			if _, sent := r.Header["User-Agent"]; !sent {
				r.Header["User-Agent"] = nil // do not invent one
			}
		},
		Transport: &http.Transport{
			MaxIdleConns:        0, // no limit over all backends
			MaxIdleConnsPerHost: 512,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
	}
	if *pool {
		proxy.BufferPool = &buffers{sync.Pool{New: func() any { b := make([]byte, 32*1024); return &b }}}
	}
	server := &http.Server{Addr: flag.Arg(0), Handler: proxy}
	if *pem != "" {
		log.Fatal(server.ListenAndServeTLS(*pem, *pem))
	}
	log.Fatal(server.ListenAndServe())
}
