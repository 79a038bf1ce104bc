"""Joins the lobby with a websocket over HTTP/2 (RFC 8441), sends a message, and waits until it comes back.

Arguments: the port, a file with the certificate of the authority, a token. Needs the library h2.
"""

import json
import os
import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings

SITE = "chat.example"
TIMEOUT_SECONDS = 60


def text_frame(text):
    """A masked text frame with less than 126 bytes of payload."""
    payload, mask = text.encode(), os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([0x81, 0x80 | len(payload)]) + mask + masked


def frames(data):
    """The payloads of the complete frames in `data`, and the bytes after them."""
    payloads = []
    while len(data) >= 2:
        start, length = 2, data[1]
        if length == 126:
            start, length = 4, int.from_bytes(data[2:4], "big")
        if len(data) < start + length:
            break
        payloads.append(data[start : start + length])
        data = data[start + length :]
    return payloads, data


class Connection:
    def __init__(self, port, authority):
        context = ssl.create_default_context(cafile=authority)
        context.set_alpn_protocols(["h2"])
        tcp = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        self.socket = context.wrap_socket(tcp, server_hostname=SITE)
        assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def events(self):
        while True:
            data = self.socket.recv(65536)
            assert data, "the connection has ended"
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                yield event
            self.flush()


def main():
    port, authority, token = sys.argv[1:]
    connection = Connection(int(port), authority)
    events = connection.events()
    next(event for event in events if isinstance(event, h2.events.RemoteSettingsChanged))
    assert connection.h2.remote_settings.enable_connect_protocol == 1, "no websockets over HTTP/2"
    stream = connection.h2.get_next_available_stream_id()
    connection.h2.send_headers(
        stream,
        [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/join"),
            (":authority", SITE),
            ("sec-websocket-version", "13"),
            ("authorization", "Bearer " + token),
        ],
    )
    connection.flush()
    received = b""
    for event in events:
        if isinstance(event, h2.events.ResponseReceived):
            status = dict(event.headers)[":status"]
            assert status == "200", status
            connection.h2.send_data(stream, text_frame(json.dumps({"type": "chat_message", "msg": {"text": "over HTTP/2"}})))
            connection.flush()
        elif isinstance(event, h2.events.DataReceived):
            payloads, received = frames(received + event.data)
            for payload in payloads:
                frame = json.loads(payload)
                if frame.get("type") == "chat_message" and frame["msg"]["text"] == "over HTTP/2":
                    return
        elif isinstance(event, h2.events.StreamReset):
            sys.exit(f"the stream was reset: {event.error_code}")


main()
