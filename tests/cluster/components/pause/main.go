// Command pause is the first process of a process namespace: it holds the namespace open, buries orphans, and leaves when told to.
// The test cluster uses it twice: inside every pod's sandbox, and as the first process of the cluster itself.
//
// With an address as its argument (pause :8080) it also answers every connection with its host name, in HTTP. That makes it the
// smallest pod that a test can reach.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	leave := make(chan os.Signal, 1)
	signal.Notify(leave, syscall.SIGTERM, syscall.SIGINT)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)

	if len(os.Args) > 1 {
		listener, err := net.Listen("tcp", os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, "pause:", err)
			os.Exit(1)
		}
		fmt.Println("answering on", os.Args[1])
		go answer(listener)
	}

	for {
		select {
		case <-leave:
			return
		case <-ended:
			bury()
		}
	}
}

// One signal can stand for many ended children, so all that there are go at once.
func bury() {
	for {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 && err != syscall.EINTR {
			return
		}
	}
}

func answer(listener net.Listener) {
	name, _ := os.Hostname()
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			connection.SetDeadline(time.Now().Add(5 * time.Second))
			// What is asked does not matter, but an unread request would turn the close into a reset.
			connection.Read(make([]byte, 4096))
			fmt.Fprintf(connection, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s\n", len(name)+1, name)
		}()
	}
}
