package main

import (
	"net"
	"sync"
	"time"
)

const (
	untrustingEvery = time.Minute // between two lines on one client
	maxUntrusting   = 1024        // clients told apart; those beyond share their lines
)

// untrusting keeps clients that do not trust the CA from filling the log: SDKs try again
// and again, with a connection each. The record has them all.
type untrusting struct {
	mu      sync.Mutex
	clients map[string]*untrustingClient // by address without port
}

type untrustingClient struct {
	said  time.Time
	count int // connections since then
}

// note counts a connection of a client (address and port). times is how many a line is
// to speak of, 0 where none is due.
func (u *untrusting) note(client string, now time.Time) (times int) {
	host, _, err := net.SplitHostPort(client)
	if err != nil {
		host = client
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.clients == nil {
		u.clients = map[string]*untrustingClient{}
	}
	c := u.clients[host]
	if c == nil && len(u.clients) >= maxUntrusting {
		for k, old := range u.clients {
			if now.Sub(old.said) >= untrustingEvery {
				delete(u.clients, k)
			}
		}
		if len(u.clients) >= maxUntrusting {
			host = ""
			c = u.clients[host]
		}
	}
	if c == nil {
		c = &untrustingClient{}
		u.clients[host] = c
	}
	c.count++
	if age := now.Sub(c.said); age < untrustingEvery && age >= 0 {
		return 0
	}
	times, c.count, c.said = c.count, 0, now
	return times
}
