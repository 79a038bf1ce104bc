"""python3 client.py ws://localhost:8080 TOKEN: prints messages, and sends each line of standard input as a message."""
import contextlib, json, random, sys, threading, time, uuid
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

base, token = sys.argv[1:]
pending, socket, last_id, failures = {}, None, None, 0  # pending: id -> text of messages that have not come back

def send(id, text):
    pending[id] = text
    with contextlib.suppress(ConnectionClosed, AttributeError):  # sent again after the return
        socket.send(json.dumps({"type": "chat_message", "id": id, "msg": {"text": text}}))

def receive(kind, msg, frame):
    global last_id, failures
    if kind == "chat_message":
        last_id = frame["event_id"]
        print(f"{msg['from_user']}: {msg['text']}", flush=True)
    if kind == "chat_message" or kind == "error" and msg["code"] != "unavailable":
        pending.pop(frame.get("id"), None)
    if kind == "caught_up":
        failures = 0
        for id, text in list(pending.items()):  # not those that just came back
            send(id, text)

threading.Thread(target=lambda: [send(str(uuid.uuid4()), line.rstrip("\n")) for line in sys.stdin], daemon=True).start()
while True:
    query = f"after={last_id}" if last_id else "last=50"
    options = {"additional_headers": {"Authorization": f"Bearer {token}"}, "ping_interval": 15}
    with contextlib.suppress(OSError, TimeoutError, EOFError):  # no server, or no network
        try:  # the list of users can be longer than the limit of the library for a message, 1 MiB
            with connect(f"{base}/join?{query}", max_size=2**24, **options) as socket:
                for frame in map(json.loads, socket):
                    receive(frame["type"], frame["msg"], frame)
        except (InvalidStatus, ConnectionClosed) as error:
            # 401, 403: log in again. 1008: the token is over, or this client is too fast.
            if any(reason in str(error) for reason in ("HTTP 401", "HTTP 403", "received 1008")):
                sys.exit(str(error))
    time.sleep(min(0.5 * 2**failures, 15) * random.uniform(0.5, 1))  # the random part spreads the return of many clients
    failures = min(failures + 1, 10)
