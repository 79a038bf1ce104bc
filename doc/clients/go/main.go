// go run . ws://localhost:8080 TOKEN: prints messages, and sends each line of standard input as a message.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

func main() {
	ctx, url, token := context.Background(), os.Args[1], os.Args[2]
	var outbox outbox
	go outbox.sendLines(ctx)
	for query, wait := "last=50", time.Second/2; ; wait = min(2*wait, 15*time.Second) {
		conn, err := join(ctx, url+"/join?"+query, token)
		for err == nil {
			var received frame // nil if nothing can be read
			err = wsjson.Read(ctx, conn, &received)
			switch received["type"] {
			case "chat_message":
				query = fmt.Sprint("after=", received["event_id"])
				msg := received["msg"].(frame)
				fmt.Printf("%s: %s\n", msg["from_user"], msg["text"])
			case "caught_up":
				wait = time.Second / 2
			}
			outbox.receive(ctx, conn, received)
		}
		switch websocket.CloseStatus(err) {
		case websocket.StatusPolicyViolation:
			log.Fatal(err) // the token is over, or this client is too fast
		case websocket.StatusMessageTooBig:
			outbox.dropFirst()
		}
		time.Sleep(wait/2 + rand.N(wait/2)) // the random part spreads the return of many clients
	}
}
