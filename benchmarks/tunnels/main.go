// Tunnels opens WebSocket connections and plays ping-pong over all of them at once: one message of 64 bytes is on its
// way in each, there or back. It asks epoll itself and does everything in one goroutine, so that it can keep a fast
// proxy busy from one core.
//
// It says "ready" when all tunnels stand. For each line on its standard input it plays for so many milliseconds and
// writes: messages that came back, seconds, median and 99th percentile of their time in microseconds, broken tunnels.
//
// Usage: tunnels PORT PATH COUNT
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const payload = 64

// A client's frame is masked (RFC 6455 5.3): two bytes of head, four of mask. A server's is not.
const sent, received = 6 + payload, 2 + payload

type tunnel struct {
	fd     int
	missed int // bytes of the echo that have not come yet
	start  time.Time
}

func open(port, path string) (*tunnel, error) {
	connection, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, port)
	connection.SetReadDeadline(time.Now().Add(20 * time.Second))
	head, one := []byte{}, make([]byte, 1)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if _, err := io.ReadFull(connection, one); err != nil {
			return nil, err
		}
		head = append(head, one[0])
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
		return nil, fmt.Errorf("no tunnel: %s", bytes.SplitN(head, []byte("\r\n"), 2)[0])
	}
	raw, err := connection.(*net.TCPConn).File()
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	// The runtime must not look after it any more.
	fd, err := syscall.Dup(int(raw.Fd()))
	if err != nil {
		return nil, err
	}
	return &tunnel{fd: fd}, syscall.SetNonblock(fd, true)
}

// Call asks the kernel directly: on sockets that never block the scheduler need not hear of each call, which
// would cost as much again.
func call(number uintptr, fd int, data []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(number, uintptr(fd), uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)))
	return int(n), errno
}

func play(epoll int, tunnels map[int32]*tunnel, frame []byte, length time.Duration) {
	times := make([]float64, 0, 1<<17)
	events := make([]syscall.EpollEvent, 1024)
	buffer := make([]byte, 4096)
	broken := 0
	start := time.Now()
	send := func(t *tunnel) {
		t.missed, t.start = received, time.Now()
		// 70 bytes always fit: nothing else is on its way.
		if n, errno := call(syscall.SYS_WRITE, t.fd, frame); errno != 0 || n != len(frame) {
			broken++
			t.missed = 0
		}
	}
	for _, t := range tunnels {
		send(t)
	}
	pending := len(tunnels) - broken
	for end := start.Add(length); pending > 0; {
		n, err := syscall.EpollWait(epoll, events, 5000)
		if n == 0 || (err != nil && err != syscall.EINTR) {
			broken += pending
			break
		}
		for _, event := range events[:max(n, 0)] {
			t := tunnels[event.Fd]
			got, errno := call(syscall.SYS_READ, t.fd, buffer)
			if errno == syscall.EAGAIN {
				continue
			}
			if errno != 0 || got <= 0 || got > t.missed {
				broken++
				pending--
				syscall.EpollCtl(epoll, syscall.EPOLL_CTL_DEL, t.fd, nil)
				delete(tunnels, event.Fd)
				continue
			}
			if t.missed -= got; t.missed > 0 {
				continue
			}
			now := time.Now()
			times = append(times, float64(now.Sub(t.start).Nanoseconds())/1000)
			if now.Before(end) {
				send(t)
			} else {
				pending--
			}
		}
	}
	seconds := time.Since(start).Seconds()
	slices.Sort(times)
	at := func(quantile float64) float64 {
		if len(times) == 0 {
			return 0
		}
		return times[int(quantile*float64(len(times)-1))]
	}
	fmt.Printf("%d %.6f %.1f %.1f %d\n", len(times), seconds, at(0.5), at(0.99), broken)
}

func main() {
	log.SetFlags(0)
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		log.Fatal(err)
	}
	tunnels := map[int32]*tunnel{}
	for range count {
		t, err := open(os.Args[1], os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(t.fd)}
		if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, t.fd, &event); err != nil {
			log.Fatal(err)
		}
		tunnels[int32(t.fd)] = t
	}
	frame := append([]byte{0x82, 0x80 | payload, 1, 2, 3, 4}, bytes.Repeat([]byte("x"), payload)...)
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		milliseconds, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
		if err != nil {
			log.Fatal(err)
		}
		play(epoll, tunnels, frame, time.Duration(milliseconds)*time.Millisecond)
	}
}
