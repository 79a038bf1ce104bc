"""python3 client.py ws://localhost:8080 TOKEN: prints messages, and sends each line of standard input as a message."""
import json, random, sys, threading, time, uuid
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

base, token = sys.argv[1:]
pending = {}  # id -> text of messages that have not come back
socket = None


def send(id, text):
    pending[id] = text
    try:
        if socket:
            socket.send(json.dumps({"type": "chat_message", "id": id, "msg": {"text": text}}))
    except ConnectionClosed:
        pass  # sent again after the return


def read_input():
    for line in sys.stdin:
        send(str(uuid.uuid4()), line.rstrip("\n"))


threading.Thread(target=read_input, daemon=True).start()
last_id, failures = None, 0
while True:
    query = f"after={last_id}" if last_id else "last=50"
    try:
        # max_size: the list of users is one frame, and longer than the default of 1 MiB in a large lobby. The library
        # sends pings, and closes the connection when they are not answered.
        headers = {"Authorization": f"Bearer {token}"}
        with connect(f"{base}/join?{query}", additional_headers=headers, max_size=2**24, ping_interval=15) as socket:
            for data in socket:
                frame = json.loads(data)
                kind, msg = frame["type"], frame["msg"]
                if kind == "chat_message":
                    last_id = frame["event_id"]
                    print(f"{msg['from_user']}: {msg['text']}", flush=True)
                if kind == "chat_message" or kind == "error" and msg["code"] != "unavailable":
                    pending.pop(frame.get("id"), None)
                if kind == "caught_up":
                    failures = 0
                    for id, text in list(pending.items()):  # not those that just came back
                        send(id, text)
    except InvalidStatus as refused:
        if refused.response.status_code in (401, 403):
            sys.exit("log in again")
    except ConnectionClosed as closed:
        if closed.rcvd and closed.rcvd.code == 1008:
            sys.exit(closed.rcvd.reason)  # the token is over, or this client is too fast
    except (OSError, TimeoutError, EOFError):
        pass  # no server, or no network
    longest = min(0.5 * 2**failures, 15)
    failures = min(failures + 1, 10)
    time.sleep(longest * (0.5 + random.random() / 2))  # the random part spreads the return of many clients
