// node client.mjs ws://localhost:8080 TOKEN    prints messages, and sends each line of standard input as a message.
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const [base, token] = process.argv.slice(2);
const pending = []; // messages that have not come back; only the first one is sent, so each answer is about that one
let socket, lastId, aliveUntil, hasCaughtUp, failures = 0;
function sendFirst() {
  if (hasCaughtUp && pending.length > 0) socket.send(JSON.stringify(pending[0]));
}
function receive({ type, event_id, id, msg }) {
  aliveUntil = Date.now() + 25_000;
  if (type === "chat_message") console.log(`${msg.from_user}: ${msg.text}`);
  if (type === "chat_message") lastId = event_id;
  if (type === "caught_up") {
    [hasCaughtUp, failures] = [true, 0];
    sendFirst(); // it is not among the missed messages
  } else if (msg.code === "unavailable" || msg.code === "rate_limited") {
    setTimeout(sendFirst, 1000 + 1000 * Math.random());
  } else if (id && id === pending[0]?.id) {
    pending.shift();
    sendFirst();
  }
}
createInterface({ input: process.stdin }).on("line", (text) => {
  if (pending.push({ type: "chat_message", id: randomUUID(), msg: { text } }) === 1) sendFirst();
});
for (;;) {
  // A websocket does not say why it was refused: a plain request does.
  const headers = { Authorization: `Bearer ${token}` };
  const { status } = await fetch(base.replace(/^ws/, "http") + "/join", { headers }).catch(() => ({}));
  if (status === 401 || status === 403) process.exit(1); // log in again
  const closed = await new Promise((close) => {
    socket = new WebSocket(`${base}/join?${lastId ? `after=${lastId}` : "last=50"}`, ["ich", `bearer.${token}`]);
    aliveUntil = Date.now() + 60_000; // a join may wait at the server
    socket.onmessage = ({ data }) => receive(JSON.parse(data));
    socket.onclose = close;
    socket.pings = setInterval(() => {
      if (Date.now() > aliveUntil) close({}); // the network is dead
      else if (hasCaughtUp) socket.send('{"type":"ping"}');
    }, 10_000);
  });
  hasCaughtUp = false;
  if (closed.code === 1008) process.exit(1); // the token is over, or this client is too fast
  if (closed.code === 1009) console.error("too long, not sent:", pending.shift()?.msg.text.slice(0, 60));
  clearInterval(socket.pings);
  Object.assign(socket, { onmessage: null, onclose: null }).close();
  await sleep(Math.min(500 * 2 ** failures++, 15_000) * (0.5 + Math.random() / 2)); // spreads the return of many clients
}
