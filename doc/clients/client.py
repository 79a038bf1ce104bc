"""python3 client.py ws://localhost:8080 TOKEN: prints messages, and sends each line of standard input as a message."""
import contextlib, json, random, sys, threading, time, uuid
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

base, token = sys.argv[1:]
pending = []  # messages that have not come back; only the first one is sent, so each answer is about that one
socket, last_id, failures = None, None, 0  # socket: None until the client has caught up

def send_first():
    with contextlib.suppress(ConnectionClosed, AttributeError, IndexError):  # sent again after the return
        socket.send(json.dumps(pending[0]))

def receive(kind, msg, frame, connection):
    global last_id, failures, socket
    if kind == "chat_message":
        last_id = frame["event_id"]
        print(f"{msg['from_user']}: {msg['text']}", flush=True)
    if kind == "caught_up":
        socket, failures = connection, 0
        send_first()  # it is not among the missed messages
    elif msg.get("code") in ("unavailable", "rate_limited"):
        threading.Timer(random.uniform(1, 2), send_first).start()
    elif pending and frame.get("id") == pending[0]["id"]:
        del pending[0]
        send_first()

def read_lines():
    for line in sys.stdin:
        pending.append({"type": "chat_message", "id": str(uuid.uuid4()), "msg": {"text": line.rstrip("\n")}})
        if len(pending) == 1:
            send_first()

threading.Thread(target=read_lines, daemon=True).start()
# A join may wait a minute at the server, which answers no ping meanwhile. The list of users can be longer than 1 MiB.
options = {"ping_interval": 15, "ping_timeout": 45, "max_size": 2**24}
headers = {"Authorization": f"Bearer {token}"}
while True:
    query = f"after={last_id}" if last_id else "last=50"
    with contextlib.suppress(OSError, TimeoutError, EOFError):  # no server, or no network
        try:
            with connect(f"{base}/join?{query}", additional_headers=headers, **options) as connection:
                for frame in map(json.loads, connection):
                    receive(frame["type"], frame["msg"], frame, connection)
        except (InvalidStatus, ConnectionClosed) as error:
            # 401, 403: log in again. 1008: the token is over, or this client is too fast.
            if any(reason in str(error) for reason in ("HTTP 401", "HTTP 403", "received 1008")):
                sys.exit(str(error))
            if "received 1009" in str(error) and pending:
                print("too long, not sent:", pending.pop(0)["msg"]["text"][:60], file=sys.stderr, flush=True)
    socket = None
    time.sleep(min(0.5 * 2**failures, 15) * random.uniform(0.5, 1))  # the random part spreads the return of many clients
    failures = min(failures + 1, 10)
