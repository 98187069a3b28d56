package main

import (
	"crypto/sha1"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"syscall"
	"unsafe"
)

// A frame of up to 125 bytes of payload, with its mask.
const largest = 2 + 4 + 125

type peer struct {
	frame  [largest]byte
	filled int
}

// Echoes serves all WebSocket connections from one goroutine, by epoll: what it costs comes off the core that the load
// generator needs.
type echoes struct {
	epoll int
	added chan int
}

func newEchoes() *echoes {
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		log.Fatal(err)
	}
	e := &echoes{epoll, make(chan int, 65536)}
	go e.serve()
	return e
}

// Accept answers a WebSocket handshake.
func (e *echoes) accept(w http.ResponseWriter, r *http.Request) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer connection.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	io.WriteString(connection, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: "+base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
	raw, err := connection.(*net.TCPConn).File()
	if err != nil {
		return
	}
	defer raw.Close()
	fd, err := syscall.Dup(int(raw.Fd()))
	if err != nil {
		return
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return
	}
	e.added <- fd
	syscall.EpollCtl(e.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
}

func (e *echoes) serve() {
	peers := map[int32]*peer{}
	events := make([]syscall.EpollEvent, 1024)
	for {
		n, err := syscall.EpollWait(e.epoll, events, -1)
		if err != nil && err != syscall.EINTR {
			log.Fatal(err)
		}
		for drained := false; !drained; {
			select {
			case fd := <-e.added:
				peers[int32(fd)] = &peer{}
			default:
				drained = true
			}
		}
		for _, event := range events[:max(n, 0)] {
			if !peers[event.Fd].echo(int(event.Fd)) {
				syscall.Close(int(event.Fd))
				delete(peers, event.Fd)
			}
		}
	}
}

// Call asks the kernel directly: on sockets that never block the scheduler need not hear of each call, which would cost
// as much again.
func call(number uintptr, fd int, data []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(number, uintptr(fd), uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)))
	return int(n), errno
}

// Echo reads what has come and answers each frame that is complete. It tells whether the connection goes on.
func (p *peer) echo(fd int) bool {
	n, errno := call(syscall.SYS_READ, fd, p.frame[p.filled:])
	if errno == syscall.EAGAIN {
		return true
	}
	if errno != 0 || n <= 0 {
		return false
	}
	p.filled += n
	for p.filled >= 2 {
		length := int(p.frame[1] & 0x7f)
		if length > 125 || p.frame[1]&0x80 == 0 || p.frame[0]&0x0f == 8 {
			return false
		}
		whole := 6 + length
		if p.filled < whole {
			return true
		}
		var answer [largest]byte
		answer[0], answer[1] = p.frame[0], byte(length)
		for at := range length {
			answer[2+at] = p.frame[6+at] ^ p.frame[2+at%4]
		}
		if n, errno := call(syscall.SYS_WRITE, fd, answer[:2+length]); errno != 0 || n != 2+length {
			return false
		}
		copy(p.frame[:], p.frame[whole:p.filled])
		p.filled -= whole
	}
	return true
}
