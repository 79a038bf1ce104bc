package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"os"
	"slices"
	"sync"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

type outbox struct {
	sync.Mutex
	conn    *websocket.Conn
	pending []frame // messages that have not come back
}

func (o *outbox) sendLines(ctx context.Context) {
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		message := frame{"type": "chat_message", "id": rand.Text(), "msg": frame{"text": input.Text()}}
		o.Lock()
		o.pending = append(o.pending, message)
		if o.conn != nil {
			wsjson.Write(ctx, o.conn, message)
		}
		o.Unlock()
	}
}

func (o *outbox) receive(ctx context.Context, conn *websocket.Conn, received frame) {
	o.Lock()
	defer o.Unlock()
	if msg, _ := received["msg"].(frame); msg["code"] != "unavailable" {
		o.pending = slices.DeleteFunc(o.pending, func(message frame) bool { return message["id"] == received["id"] })
	}
	if received["type"] == "caught_up" {
		o.conn = conn
		for _, message := range o.pending { // not those that just came back
			wsjson.Write(ctx, conn, message)
		}
	}
}
