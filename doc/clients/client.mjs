// node client.mjs ws://localhost:8080 TOKEN    prints messages, and sends each line of standard input as a message.
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";

const [base, token] = process.argv.slice(2);
const pending = new Map(); // id -> text of messages that have not come back
let socket, lastId;
let failures = 0;

async function join() {
  // A websocket does not say why it was refused: a plain request does.
  const headers = { Authorization: `Bearer ${token}` };
  const { status } = await fetch(base.replace(/^ws/, "http") + "/join", { headers }).catch(() => ({}));
  if (status === 401 || status === 403) process.exit(1); // log in again
  const query = lastId ? `after=${lastId}` : "last=50";
  const opened = new WebSocket(`${base}/join?${query}`, ["ich", `bearer.${token}`]);
  const silence = () => setTimeout(() => lost(opened, 4000), 30_000);
  let timer = silence(); // the network is dead if nothing arrives, not even a pong
  const pings = setInterval(() => opened.readyState === 1 && opened.send('{"type":"ping"}'), 15_000);
  opened.onmessage = ({ data }) => {
    clearTimeout(timer);
    timer = silence();
    receive(JSON.parse(data));
  };
  opened.onclose = ({ code }) => lost(opened, code);
  socket = Object.assign(opened, { stopTimers: () => [clearTimeout(timer), clearInterval(pings)] });
}

function lost(lostSocket, code) {
  lostSocket.stopTimers();
  if (lostSocket !== socket) return;
  socket = null;
  lostSocket.close();
  if (code === 1008) process.exit(1); // the token is over, or this client is too fast
  const longest = Math.min(500 * 2 ** failures++, 15_000);
  setTimeout(join, longest * (0.5 + Math.random() / 2)); // the random part spreads the return of many clients
}

function receive({ type, event_id, id, msg }) {
  if (type === "caught_up") for (const [id, text] of pending) send(id, text); // not those that just came back
  if (type === "caught_up") failures = 0;
  if (type === "chat_message") {
    lastId = event_id;
    console.log(`${msg.from_user}: ${msg.text}`);
  }
  if (type === "chat_message" || (type === "error" && msg.code !== "unavailable")) pending.delete(id);
}

function send(id, text) {
  pending.set(id, text);
  if (socket?.readyState === 1) socket.send(JSON.stringify({ type: "chat_message", id, msg: { text } }));
}

createInterface({ input: process.stdin }).on("line", (text) => send(randomUUID(), text));
join();
