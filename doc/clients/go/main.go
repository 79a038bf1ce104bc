// go run . ws://localhost:8080 TOKEN: prints messages, and sends each line of standard input as a message.
package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

type frame struct {
	Type    string         `json:"type"`
	EventID string         `json:"event_id"`
	ID      string         `json:"id"`
	Msg     map[string]any `json:"msg"`
}

// join returns a connection and what it receives, until the channel is closed.
func join(url, token, query string) (*websocket.Conn, <-chan frame) {
	ctx, frames := context.Background(), make(chan frame)
	options := websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}}
	conn, response, err := websocket.Dial(ctx, url+"/join?"+query, &options)
	if err != nil {
		if response != nil && (response.StatusCode == 401 || response.StatusCode == 403) {
			os.Exit(1) // log in again
		}
		close(frames)
		return nil, frames
	}
	conn.SetReadLimit(16 << 20) // the list of users is one frame; the default is 32 KiB
	go func() {
		for f := (frame{}); ; f = (frame{}) {
			if err := wsjson.Read(ctx, conn, &f); websocket.CloseStatus(err) == websocket.StatusPolicyViolation {
				os.Exit(1) // the token is over, or this client is too fast
			} else if err != nil {
				close(frames)
				return
			}
			frames <- f
		}
	}()
	go func() { // a ping that is not answered ends the connection
		for {
			limit, stop := context.WithTimeout(ctx, 10*time.Second)
			err := conn.Ping(limit)
			stop()
			if err != nil {
				conn.CloseNow()
				return
			}
			time.Sleep(15 * time.Second)
		}
	}()
	return conn, frames
}

func main() {
	lines := make(chan string) // they wait here while there is no connection
	go func() {
		for input := bufio.NewScanner(os.Stdin); input.Scan(); {
			lines <- input.Text()
		}
	}()
	var pending []frame // messages that have not come back
	query, wait := "last=50", time.Second/2
	for ; ; wait = min(2*wait, 15*time.Second) {
		conn, frames := join(os.Args[1], os.Args[2], query)
		for isOpen := true; isOpen; {
			var f frame
			select {
			case text := <-lines:
				message := frame{"chat_message", "", fmt.Sprintf("%x", rand.Uint64()), map[string]any{"text": text}}
				pending = append(pending, message)
				if conn != nil {
					wsjson.Write(context.Background(), conn, message)
				}
			case f, isOpen = <-frames:
			}
			if f.Type == "chat_message" {
				query = "after=" + f.EventID
				fmt.Printf("%s: %s\n", f.Msg["from_user"], f.Msg["text"])
			}
			if f.Type == "chat_message" || f.Type == "error" && f.Msg["code"] != "unavailable" {
				pending = slices.DeleteFunc(pending, func(message frame) bool { return message.ID == f.ID })
			}
			if f.Type == "caught_up" {
				wait = time.Second / 2
				for _, message := range pending { // not those that just came back
					wsjson.Write(context.Background(), conn, message)
				}
			}
		}
		time.Sleep(wait/2 + rand.N(wait/2)) // the random part spreads the return of many clients
	}
}
