// A backend with a known service time: so many slots, a queue in order of arrival, and faults on command.
//
//	slots 127.0.0.1:8081 NAME SEED [BEHAVIOUR]
//
// GET /health answers at once as long as the process lives, whatever else is wrong with it: who balances has to find out by
// the traffic. PUT /control takes a Behaviour, as the last argument does, GET /control gives the number of requests that came. SIGTERM ends it as a good
// server ends: no new connections, idle ones are closed, the requests in service are answered.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"math/rand"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Behaviour is what the benchmark sets. Service times are log-normal: MeanMs, and Sigma of the logarithm.
type Behaviour struct {
	MeanMs     float64 `json:"mean_ms"`
	Sigma      float64 `json:"sigma"`
	FailRatio  float64 `json:"fail_ratio"` // of requests are answered with 500, at once and without a slot
	SlowRatio  float64 `json:"slow_ratio"` // of requests take SlowFactor times as long
	SlowFactor float64 `json:"slow_factor"`
	Hangs      bool    `json:"hangs"` // takes a request and never answers, for as long as the process lives
	Slots      int     `json:"slots"` // requests that are worked on at once
}

const mostSlots = 8

var body = []byte(strings.Repeat("x", 99) + "\n")

type server struct {
	name      string
	lock      sync.Mutex // of the two below
	behaviour Behaviour
	chance    *rand.Rand
	free      chan struct{} // waiters on a channel are served in order
	requests  int64
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/health":
		fmt.Fprintln(w, "ok")
	case "/control":
		s.control(w, r)
	default:
		s.serve(w)
	}
}

func (s *server) control(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		var wanted Behaviour
		if err := json.NewDecoder(r.Body).Decode(&wanted); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.behave(wanted)
	}
	fmt.Fprintln(w, atomic.LoadInt64(&s.requests))
}

// behave sets what holds from now on; requests in service give their slot back to where they took it.
func (s *server) behave(wanted Behaviour) {
	if wanted.Slots < 1 || wanted.Slots > mostSlots {
		wanted.Slots = mostSlots
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.free == nil || wanted.Slots != s.behaviour.Slots {
		s.free = make(chan struct{}, wanted.Slots)
		for i := 0; i < wanted.Slots; i++ {
			s.free <- struct{}{}
		}
	}
	s.behaviour = wanted
}

// A client that leaves gives no slot back: whoever works on a request does not notice.
func (s *server) serve(w http.ResponseWriter) {
	atomic.AddInt64(&s.requests, 1)
	took, failed, hangs, free := s.draw()
	w.Header().Set("X-Backend", s.name)
	if failed {
		http.Error(w, "failed", http.StatusInternalServerError)
		return
	}
	<-free
	if hangs {
		select {}
	}
	time.Sleep(took)
	free <- struct{}{}
	w.Write(body)
}

func (s *server) draw() (took time.Duration, failed, hangs bool, free chan struct{}) {
	s.lock.Lock()
	defer s.lock.Unlock()
	b := s.behaviour
	// The mean of exp(normal(mu, sigma)) is exp(mu + sigma²/2).
	ms := b.MeanMs * math.Exp(b.Sigma*s.chance.NormFloat64()-b.Sigma*b.Sigma/2)
	if s.chance.Float64() < b.SlowRatio {
		ms *= b.SlowFactor
	}
	return time.Duration(ms * float64(time.Millisecond)), s.chance.Float64() < b.FailRatio, b.Hangs, s.free
}

func main() {
	if len(os.Args) != 4 && len(os.Args) != 5 {
		log.Fatal("usage: slots LISTEN NAME SEED [BEHAVIOUR]")
	}
	seed, err := strconv.ParseInt(os.Args[3], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	s := &server{name: os.Args[2], chance: rand.New(rand.NewSource(seed))}
	behaviour := Behaviour{MeanMs: 8, Sigma: 0.5, SlowFactor: 1}
	if len(os.Args) == 5 {
		if err := json.Unmarshal([]byte(os.Args[4]), &behaviour); err != nil {
			log.Fatal(err)
		}
	}
	s.behave(behaviour)
	listener := &http.Server{Addr: os.Args[1], Handler: s}
	ended := make(chan struct{})
	go func() {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		<-asked
		listener.Shutdown(context.Background())
		close(ended)
	}()
	if err := listener.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-ended
}
