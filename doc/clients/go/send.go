package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"log"
	mathrand "math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

type outbox struct {
	sync.Mutex
	conn    *websocket.Conn
	pending []frame // messages that have not come back; only the first one is sent, so each answer is about that one
}

func (o *outbox) sendLines(ctx context.Context) {
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		message := frame{"type": "chat_message", "id": rand.Text(), "msg": frame{"text": input.Text()}}
		o.Lock()
		o.pending = append(o.pending, message)
		if len(o.pending) == 1 {
			o.sendFirst(ctx)
		}
		o.Unlock()
	}
}

func (o *outbox) sendFirst(ctx context.Context) {
	if o.conn != nil && len(o.pending) > 0 {
		wsjson.Write(ctx, o.conn, o.pending[0])
	}
}

func (o *outbox) receive(ctx context.Context, conn *websocket.Conn, received frame) {
	o.Lock()
	defer o.Unlock()
	msg, _ := received["msg"].(frame)
	switch {
	case received["type"] == "caught_up":
		o.conn = conn
		o.sendFirst(ctx) // it is not among the missed messages
	case msg["code"] == "unavailable" || msg["code"] == "rate_limited":
		time.AfterFunc(time.Second+mathrand.N(time.Second), func() {
			o.Lock()
			defer o.Unlock()
			o.sendFirst(ctx)
		})
	case len(o.pending) > 0 && received["id"] == o.pending[0]["id"]:
		o.pending = o.pending[1:]
		o.sendFirst(ctx)
	}
}

// dropFirst forgets the message that was too long for the server.
func (o *outbox) dropFirst() {
	o.Lock()
	defer o.Unlock()
	if len(o.pending) > 0 {
		log.Printf("too long, not sent: %.60s", o.pending[0]["msg"].(frame)["text"])
		o.pending = o.pending[1:]
	}
}
