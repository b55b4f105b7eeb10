// An open-loop load: requests start when a Poisson process says so, whether earlier ones were answered or not.
//
//	poisson -rate 250 -seconds 24 -at UNIX_SECONDS -seed 1 127.0.0.1:8080
//
// For each request a line "START_US LATE_US LATENCY_US STATUS BACKEND", in microseconds: START from the beginning to the intended
// start; LATE from there to the real one, which is the noise of this machine; LATENCY from the intended start to the last byte
// of the answer. So the time that a request waits because the load itself is held up is counted (no coordinated omission).
// STATUS is the code, or what went wrong; BACKEND is the X-Backend field.
//
// Connections are kept, and a request that finds none idle opens one: none waits for another. With -connections there are so many at
// most, as in the pool of a proxy in front, and the wait for one counts. The client does not repeat anything, as net/http's would
// with a GET on a kept connection: what the edge loses is to be seen.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

type connection struct {
	net.Conn
	reader *bufio.Reader
}

type client struct {
	address string
	timeout time.Duration
	text    []byte
	request *http.Request // tells ReadResponse the method
	lock    sync.Mutex    // of idle
	idle    []*connection
}

func (c *client) connect() (*connection, error) {
	c.lock.Lock()
	if last := len(c.idle) - 1; last >= 0 {
		kept := c.idle[last]
		c.idle = c.idle[:last]
		c.lock.Unlock()
		return kept, nil
	}
	c.lock.Unlock()
	socket, err := net.DialTimeout("tcp", c.address, c.timeout)
	if err != nil {
		return nil, err
	}
	return &connection{socket, bufio.NewReader(socket)}, nil
}

// ask gives the status and who answered; the connection is kept if it may be.
func (c *client) ask(deadline time.Time) (status, backend string) {
	conn, err := c.connect()
	if err != nil {
		return "connect", ""
	}
	conn.SetDeadline(deadline)
	answer, err := c.exchange(conn)
	if err != nil {
		conn.Close()
		return problem(err), ""
	}
	_, err = io.Copy(io.Discard, answer.Body)
	if err != nil || answer.Close {
		conn.Close()
	} else {
		c.lock.Lock()
		c.idle = append(c.idle, conn)
		c.lock.Unlock()
	}
	if err != nil {
		return problem(err), ""
	}
	return fmt.Sprint(answer.StatusCode), answer.Header.Get("X-Backend")
}

func (c *client) exchange(conn *connection) (*http.Response, error) {
	if _, err := conn.Write(c.text); err != nil {
		return nil, err
	}
	return http.ReadResponse(conn.reader, c.request)
}

func problem(err error) string {
	var timed net.Error
	if errors.As(err, &timed) && timed.Timeout() {
		return "timeout"
	}
	return "broken"
}

func main() {
	rate := flag.Float64("rate", 250, "requests per second, on average")
	seconds := flag.Float64("seconds", 20, "how long requests are begun")
	at := flag.Float64("at", 0, "when to begin, as Unix time")
	seed := flag.Int64("seed", 1, "of the starts")
	most := flag.Int("connections", 0, "at most, 0 for as many as it takes")
	timeout := flag.Duration("timeout", 10*time.Second, "for an answer, from the intended start")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: poisson [options] HOST:PORT")
	}
	text := []byte("GET / HTTP/1.1\r\nHost: " + flag.Arg(0) + "\r\nUser-Agent: poisson\r\n\r\n")
	c := &client{address: flag.Arg(0), timeout: *timeout, text: text, request: &http.Request{Method: "GET"}}
	chance := rand.New(rand.NewSource(*seed))
	var free chan struct{}
	if *most > 0 {
		free = make(chan struct{}, *most)
	}
	var pending sync.WaitGroup
	var lock sync.Mutex // of out
	out := bufio.NewWriter(os.Stdout)
	begin := time.Now()
	if *at > 0 {
		begin = begin.Add(time.Until(time.UnixMicro(int64(*at * 1e6))))
	}
	for after := chance.ExpFloat64() / *rate; after < *seconds; after += chance.ExpFloat64() / *rate {
		intended := begin.Add(time.Duration(after * 1e9))
		time.Sleep(time.Until(intended))
		pending.Add(1)
		go func() {
			defer pending.Done()
			late := time.Since(intended)
			if free != nil {
				free <- struct{}{}
			}
			status, backend := "timeout", ""
			if deadline := intended.Add(c.timeout); time.Now().Before(deadline) {
				status, backend = c.ask(deadline)
			}
			if free != nil {
				<-free
			}
			latency := time.Since(intended)
			lock.Lock()
			defer lock.Unlock()
			fmt.Fprintln(out, intended.Sub(begin).Microseconds(), late.Microseconds(), latency.Microseconds(), status, backend)
		}()
	}
	pending.Wait()
	if err := out.Flush(); err != nil {
		log.Fatal(err)
	}
}
