// Origin takes uploads: it reads the body of any request, throws it away and answers with its length in bytes.
// A body that breaks off gets no answer.
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
	swallow := func(w http.ResponseWriter, r *http.Request) {
		buffer := buffers.Get().(*[]byte)
		defer buffers.Put(buffer)
		// The struct hides io.Discard's ReadFrom, which would use 8 KiB pieces of its own.
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, *buffer)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "%d\n", n)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(swallow)))
}
