// Origin takes uploads: it reads the body of any request, throws it away and answers with its length in bytes.
// A body that breaks off gets no answer. A WebSocket handshake is accepted, and messages of up to 125 bytes echoed.
//
// It listens on 127.0.0.1 and on 127.0.0.2, for proxies with two targets.
//
// Usage: origin PORT
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
)

func main() {
	buffers := sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}
	echoes := newEchoes()
	serve := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			echoes.accept(w, r)
			return
		}
		buffer := buffers.Get().(*[]byte)
		defer buffers.Put(buffer)
		// The struct hides io.Discard's ReadFrom, which would use 8 KiB pieces of its own.
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, *buffer)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "%d\n", n)
	}
	go func() { log.Fatal(http.ListenAndServe("127.0.0.2:"+os.Args[1], http.HandlerFunc(serve))) }()
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(serve)))
}
