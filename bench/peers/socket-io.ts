/** Socket.IO on Node, WebSocket alone, with its own rooms and acknowledgements; the package is where `PACKAGE` says. */
import { createServer } from "node:http";
import { userOf } from "./token.ts";

interface Socket {
  data: { user?: string };
  handshake: { auth: { token?: string } };
  join(rooms: string[]): void;
  to(room: string): { emit(name: string, value: object): void };
  on(name: "sub", on: (rooms: string[], done: (answer: string) => void) => void): void;
  on(name: "pub", on: (message: { room: string; c: string }, done: () => void) => void): void;
}
interface Io {
  use(check: (socket: Socket, next: (refusal?: Error) => void) => void): void;
  on(name: "connection", on: (socket: Socket) => void): void;
}

const { Server } = (await import(process.env.PACKAGE!)) as { Server: new (...args: unknown[]) => Io };
const server = createServer((_, response) => response.end("ok"));
const io = new Server(server, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });

io.use((socket, next) => {
  const user = userOf(socket.handshake.auth.token);
  if (user === null) return next(new Error("auth"));
  socket.data.user = user;
  next();
});
io.on("connection", (socket) => {
  socket.on("sub", (rooms, done) => {
    socket.join(rooms);
    done("ok");
  });
  socket.on("pub", ({ room, c }, done) => {
    socket.to(room).emit("msg", { room, from: socket.data.user, c });
    done();
  });
});
server.listen(Number(process.env.PORT), "127.0.0.1", 4_096);
