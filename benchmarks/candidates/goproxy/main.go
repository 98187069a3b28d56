// Goproxy is Go's httputil.ReverseProxy as a sensible Go programmer would set it up: the Rewrite contract,
// forwarding headers, and a Transport that keeps enough idle connections (its default is 2 for each host) and
// leaves bodies as they are. It writes no access log, so the comparison favors Go.
//
// With the argument "pool" it has a BufferPool too. Without one ReverseProxy allocates 32 KiB for each response,
// which the garbage collector takes away again.
//
// Usage: goproxy PORT ORIGINPORT [pool]
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
)

type bufferPool struct{ buffers sync.Pool }

func (p *bufferPool) Get() []byte       { return *p.buffers.Get().(*[]byte) }
func (p *bufferPool) Put(buffer []byte) { p.buffers.Put(&buffer) }

func main() {
	target, err := url.Parse("http://127.0.0.1:" + os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns = 0
	transport.MaxIdleConnsPerHost = 256
	transport.DisableCompression = true
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
		},
		Transport: transport,
	}
	if len(os.Args) > 3 && os.Args[3] == "pool" {
		proxy.BufferPool = &bufferPool{sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}}
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], proxy))
}
