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
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

type frame struct {
	Type    string `json:"type"`
	EventID string `json:"event_id"`
	ID      string `json:"id"`
	Msg     struct {
		FromUser string `json:"from_user"`
		Text     string `json:"text"`
		Code     string `json:"code"`
	} `json:"msg"`
}

var mutex sync.Mutex     // for the variables below
var pending []frame      // messages that have not come back
var conn *websocket.Conn // a message that is lost with the connection is sent again after the return
var lastID string

func receive(f frame) {
	mutex.Lock()
	defer mutex.Unlock()
	if f.Type == "chat_message" {
		lastID = f.EventID
		fmt.Printf("%s: %s\n", f.Msg.FromUser, f.Msg.Text)
	}
	if f.Type == "chat_message" || f.Type == "error" && f.Msg.Code != "unavailable" {
		pending = slices.DeleteFunc(pending, func(p frame) bool { return p.ID == f.ID })
	}
	for i := 0; f.Type == "caught_up" && i < len(pending); i++ { // not those that just came back
		wsjson.Write(context.Background(), conn, pending[i])
	}
}

// session ends with the connection, and returns whether it was in the lobby.
func session(url, token string) (joined bool) {
	query := "last=50"
	if lastID != "" {
		query = "after=" + lastID
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	options := websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}}
	opened, response, err := websocket.Dial(ctx, url+"/join?"+query, &options)
	if err != nil {
		if response != nil && (response.StatusCode == 401 || response.StatusCode == 403) {
			os.Exit(1) // log in again
		}
		return false
	}
	opened.SetReadLimit(16 << 20) // the list of users is one frame; the default is 32 KiB
	mutex.Lock()
	conn = opened
	mutex.Unlock()
	go func() { // a ping that is not answered ends the connection
		for ; ctx.Err() == nil; time.Sleep(15 * time.Second) {
			alive, stop := context.WithTimeout(ctx, 10*time.Second)
			if opened.Ping(alive) != nil {
				opened.CloseNow()
			}
			stop()
		}
	}()
	for {
		var f frame
		if err := wsjson.Read(ctx, opened, &f); websocket.CloseStatus(err) == websocket.StatusPolicyViolation {
			os.Exit(1) // the token is over, or this client is too fast
		} else if err != nil {
			return joined
		}
		joined = true
		receive(f)
	}
}

func main() {
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			f := frame{Type: "chat_message", ID: fmt.Sprintf("%x", rand.Uint64())}
			f.Msg.Text = lines.Text()
			mutex.Lock()
			pending = append(pending, f)
			if conn != nil {
				wsjson.Write(context.Background(), conn, f)
			}
			mutex.Unlock()
		}
	}()
	for wait := time.Second; ; wait = min(2*wait, 15*time.Second) {
		if session(os.Args[1], os.Args[2]) {
			wait = time.Second
		}
		time.Sleep(wait/2 + rand.N(wait/2)) // the random part spreads the return of many clients
	}
}
