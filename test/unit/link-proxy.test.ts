/** The tests' own proxy: what passes a link that is frozen, slow or cut, and what does once it is healed. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { connect, createServer, type Server, type Socket } from "node:net";
import { type LinkProxy, startProxy } from "../support/proxy.ts";

let server: Server;
let proxy: LinkProxy;
/** Connections as the server has them. */
let accepted: Socket[];
beforeEach(async () => {
  accepted = [];
  server = createServer((socket) => {
    accepted.push(socket);
    socket.on("data", (chunk) => socket.write(chunk));
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  proxy = await startProxy((server.address() as { port: number }).port);
});
afterEach(async () => {
  await proxy.stop();
  for (const socket of accepted) socket.destroy();
  server.close();
});

/** A client that keeps what it hears; `heard` resolves once it has so many characters. */
function open() {
  const socket = connect({ host: "127.0.0.1", port: proxy.port });
  const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
  socket.on("error", () => {});
  let text = "";
  const waiting: { length: number; resolve: (text: string) => void }[] = [];
  socket.on("data", (chunk) => {
    text += chunk;
    for (const { length, resolve } of waiting) if (text.length >= length) resolve(text);
  });
  const heard = (length: number) =>
    new Promise<string>((resolve) => {
      if (text.length >= length) resolve(text);
      else waiting.push({ length, resolve });
    });
  return { socket, closed, heard, text: () => text };
}

test("a healthy link carries both ways, much at once, and its end", async () => {
  const { socket, heard, closed } = open();
  const much = "x".repeat(1_000_000);
  socket.write(much);
  expect(await heard(much.length)).toBe(much);
  accepted[0]!.end();
  await closed;
});

test("a frozen link carries nothing until it is healed, then all of it in order; others go on", async () => {
  const frozen = open();
  frozen.socket.write("a");
  await frozen.heard(1);
  proxy.freeze();
  frozen.socket.write("b");
  const late = open();
  late.socket.write("late");
  await new Promise<void>((resolve) => late.socket.once("connect", () => resolve()));
  expect([frozen.text(), late.text()]).toEqual(["a", ""]);
  frozen.socket.write("c");
  proxy.heal();
  expect(await frozen.heard(3)).toBe("abc");
  expect(await late.heard(4)).toBe("late");
});

test("a slow link keeps the order, also where it becomes fast again", async () => {
  const { socket, heard } = open();
  proxy.delay(50);
  socket.write("one ");
  await new Promise<void>((resolve) => server.once("connection", () => resolve()));
  proxy.heal();
  socket.write("two");
  expect(await heard(7)).toBe("one two");
});

test("a cut link breaks off what is there and turns away what comes, until it is healed", async () => {
  const there = open();
  there.socket.write("a");
  await there.heard(1);
  proxy.cut();
  await there.closed;
  await open().closed;
  expect(accepted).toHaveLength(1);
  proxy.heal();
  const back = open();
  back.socket.write("back");
  expect(await back.heard(4)).toBe("back");
});

test("a link that is led elsewhere breaks off what is there, and what comes reaches the other port", async () => {
  const other = createServer((socket) => {
    accepted.push(socket);
    socket.on("error", () => {});
    socket.end("other");
  });
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const before = open();
  before.socket.write("here");
  expect(await before.heard(4)).toBe("here");
  proxy.lead((other.address() as { port: number }).port);
  await before.closed;
  const after = open();
  expect(await after.heard(5)).toBe("other");
  other.close();
});
