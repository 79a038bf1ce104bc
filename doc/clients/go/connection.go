package main

import (
	"context"
	"log"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

type frame = map[string]any

// join opens a connection, which is closed when the network is dead.
func join(ctx context.Context, url, token string) (*websocket.Conn, error) {
	header := http.Header{"Authorization": {"Bearer " + token}}
	conn, response, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		if response != nil && (response.StatusCode == 401 || response.StatusCode == 403) {
			log.Fatal(err) // log in again
		}
		return nil, err
	}
	conn.SetReadLimit(16 << 20) // the list of users is one frame; the default is 32 KiB
	go closeIfDead(ctx, conn)
	return conn, nil
}

func closeIfDead(ctx context.Context, conn *websocket.Conn) {
	// A join may wait at the server, which answers no ping meanwhile.
	for timeout := time.Minute; ; timeout = 10 * time.Second {
		limited, cancel := context.WithTimeout(ctx, timeout)
		err := conn.Ping(limited)
		cancel()
		if err != nil {
			conn.CloseNow()
			return
		}
		time.Sleep(15 * time.Second)
	}
}
