// node client.mjs ws://localhost:8080 TOKEN    prints messages, and sends each line of standard input as a message.
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const [base, token] = process.argv.slice(2);
const pending = new Map(); // id -> text of messages that have not come back
let socket, lastId, isAlive, failures = 0;
function send(id, text) {
  pending.set(id, text);
  if (socket?.readyState === 1) socket.send(JSON.stringify({ type: "chat_message", id, msg: { text } }));
}
function receive({ type, event_id, id, msg }) {
  isAlive = true;
  if (type === "chat_message") console.log(`${msg.from_user}: ${msg.text}`);
  if (type === "chat_message") lastId = event_id;
  if (type === "chat_message" || (type === "error" && msg.code !== "unavailable")) pending.delete(id);
  if (type === "caught_up") failures = 0;
  if (type === "caught_up") pending.forEach((text, id) => send(id, text)); // not those that just came back
}
createInterface({ input: process.stdin }).on("line", (text) => send(randomUUID(), text));
for (;;) {
  // A websocket does not say why it was refused: a plain request does.
  const headers = { Authorization: `Bearer ${token}` };
  const { status } = await fetch(base.replace(/^ws/, "http") + "/join", { headers }).catch(() => ({}));
  if (status === 401 || status === 403) process.exit(1); // log in again
  const closed = await new Promise((close) => {
    socket = new WebSocket(`${base}/join?${lastId ? `after=${lastId}` : "last=50"}`, ["ich", `bearer.${token}`]);
    socket.onmessage = ({ data }) => receive(JSON.parse(data));
    socket.onclose = close;
    socket.pings = setInterval(() => {
      if (isAlive && socket.readyState === 1) socket.send('{"type":"ping"}');
      isAlive = isAlive ? false : close({}); // nothing arrived since the last ping: the network is dead
    }, 15_000);
  });
  if (closed.code === 1008) process.exit(1); // the token is over, or this client is too fast
  clearInterval(socket.pings);
  Object.assign(socket, { onmessage: null, onclose: null }).close();
  await sleep(Math.min(500 * 2 ** failures++, 15_000) * (0.5 + Math.random() / 2)); // spreads the return of many clients
}
