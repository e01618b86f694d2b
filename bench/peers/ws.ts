/** `ws` on Node, as it is used where there is nothing else: rooms as sets of sockets, each message encoded once; the package is where `PACKAGE` says. */
import { createServer, type IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { userOf } from "./token.ts";

type Request = { t: "pub"; id: number; room: string; c: string } | { t: "sub"; rooms: string[] };

interface Socket {
  send(data: Buffer | string, options?: { binary: boolean }): void;
  on(name: "message", on: (data: Buffer) => void): void;
  on(name: "close" | "error", on: () => void): void;
}
interface Sockets {
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, done: (ws: Socket) => void): void;
}

const { WebSocketServer } = (await import(process.env.PACKAGE!)) as {
  WebSocketServer: new (options: object) => Sockets;
};
const rooms = new Map<string, Set<Socket>>();
const server = createServer((_, response) => response.end("ok"));
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, clientTracking: false });

server.on("upgrade", (request, socket, head) => {
  const user = userOf(new URL(request.url!, "http://localhost").searchParams.get("token"));
  if (user === null) return socket.end("HTTP/1.1 401 Unauthorized\r\n\r\n");
  sockets.handleUpgrade(request, socket, head, (ws) => serve(ws, user));
});
server.listen(Number(process.env.PORT), "127.0.0.1", 4_096);

function serve(ws: Socket, user: string): void {
  const own = new Set<string>();
  ws.on("message", (data) => {
    const request = JSON.parse(String(data)) as Request;
    if (request.t === "pub") {
      const { room, c } = request;
      const frame = Buffer.from(JSON.stringify({ t: "msg", room, from: user, c }));
      for (const each of rooms.get(room) ?? []) if (each !== ws) each.send(frame, { binary: false });
      ws.send(`{"t":"ack","id":${request.id}}`);
    } else {
      for (const room of request.rooms) {
        if (!rooms.has(room)) rooms.set(room, new Set());
        rooms.get(room)!.add(ws);
        own.add(room);
      }
      ws.send('{"t":"subok"}');
    }
  });
  ws.on("close", () => {
    for (const room of own) {
      rooms.get(room)!.delete(ws);
      if (rooms.get(room)!.size === 0) rooms.delete(room);
    }
  });
  ws.on("error", () => {});
}
