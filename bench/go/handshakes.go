// A closed loop of TLS connections: connect, shake hands, ask once, read the answer to its end, and again.
//
//	handshakes [-resume] -connections 8 -seconds 3 127.0.0.1:8443
//
// With -resume each connection goes on with the session of the one before it (a ticket, RFC 8446 section 2.2), as browsers do; one
// that does not is an error. Prints one line as wrk.lua does.
package main

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sort"
	"sync"
	"time"
)

type seen struct {
	latencies []time.Duration
	errors    int
}

// ask makes one connection; it gives whether the handshake went on with an earlier session.
func ask(address string, config *tls.Config, text []byte) (resumed bool, err error) {
	socket, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return false, err
	}
	defer socket.Close()
	socket.SetDeadline(time.Now().Add(5 * time.Second))
	conn := tls.Client(socket, config)
	if _, err = conn.Write(text); err != nil { // shakes hands first
		return false, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false, err
	}
	if _, err = io.Copy(io.Discard, answer.Body); err != nil {
		return false, err
	}
	if answer.StatusCode != 200 {
		return false, fmt.Errorf("status %d", answer.StatusCode)
	}
	return conn.ConnectionState().DidResume, nil
}

func client(address string, resume bool, until time.Time, text []byte) (found seen) {
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}
	if resume {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		ask(address, config, text) // it has nothing to go on with yet
	}
	for time.Now().Before(until) {
		begin := time.Now()
		resumed, err := ask(address, config, text)
		if err != nil || resumed != resume {
			found.errors++
			continue
		}
		found.latencies = append(found.latencies, time.Since(begin))
	}
	return found
}

func main() {
	resume := flag.Bool("resume", false, "go on with the last session")
	connections := flag.Int("connections", 8, "so many at a time")
	seconds := flag.Int("seconds", 3, "for how long")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: handshakes [options] HOST:PORT")
	}
	text := []byte("GET / HTTP/1.1\r\nHost: " + flag.Arg(0) + "\r\nConnection: close\r\n\r\n")
	begin := time.Now()
	until := begin.Add(time.Duration(*seconds) * time.Second)
	results := make([]seen, *connections)
	var all sync.WaitGroup
	for i := range results {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			results[i] = client(flag.Arg(0), *resume, until, text)
		}(i)
	}
	all.Wait()
	took := time.Since(begin)
	var latencies []time.Duration
	errors := 0
	for _, one := range results {
		latencies = append(latencies, one.latencies...)
		errors += one.errors
	}
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	quantile := func(part float64) int64 {
		if len(latencies) == 0 {
			return 0
		}
		return latencies[int(part*float64(len(latencies)-1))].Microseconds()
	}
	fmt.Printf("RESULT {\"requests\": %d, \"duration_us\": %d, \"p50_us\": %d, \"p99_us\": %d, \"errors\": %d}\n",
		len(latencies), took.Microseconds(), quantile(0.5), quantile(0.99), errors)
}
