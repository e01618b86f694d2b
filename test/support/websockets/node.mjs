// Node's `ws` as a program: sends the frames of its input, and says what it has agreed on and what comes, a line of JSON each.
import { createInterface } from "node:readline";
import { WebSocket } from "ws";

const [url, subprotocol] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const socket = new WebSocket(url, subprotocol, { rejectUnauthorized: false });

socket.on("open", () => {
  say({ extensions: socket.extensions.split(", ").map((it) => it.split(";")[0]) });
  createInterface({ input: process.stdin }).on("line", (line) => {
    const { data, binary } = JSON.parse(line);
    socket.send(Buffer.from(data, "base64"), { binary });
  });
});
socket.on("message", (data, binary) => say({ data: data.toString("base64"), binary }));
socket.on("close", (code) => {
  say({ closed: code });
  process.exit(0);
});
socket.on("error", (error) => say({ error: String(error) }));
