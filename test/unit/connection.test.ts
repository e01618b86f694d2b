/** One connection and who watches over it, with a socket that says what is done to it and a clock that the test turns. */
import { beforeEach, expect, test } from "bun:test";
import * as v from "valibot";
import { configSchema } from "../../src/config/schema.ts";
import { Hub } from "../../src/websocket/hub.ts";
import { Liveness } from "../../src/websocket/liveness.ts";
import { connectionOn } from "../support/server-connection.ts";

const config = v.parse(configSchema, {});
const second = 1_000;
let time: number;
let hub: Hub;
let liveness: Liveness;

beforeEach(() => {
  time = Date.UTC(2026, 0, 2);
  hub = new Hub();
  liveness = new Liveness({
    config,
    hub,
    tell() {},
    bufferBytesMax: 1 << 24,
    now: () => time,
  });
});

/** A live connection with a socket of its own. */
function connect() {
  const socket = {
    isPaused: false,
    pings: 0,
    closedWith: null as number | null,
    pause: () => void (socket.isPaused = true),
    resume: () => void (socket.isPaused = false),
    ping: () => socket.pings++,
    close: (code: number) => void (socket.closedWith = code),
    terminate() {},
    isSubscribed: () => false,
    getBufferedAmount: () => 0,
  };
  const connection = connectionOn(socket, { now: time });
  connection.moveTo("authenticating");
  connection.moveTo("live");
  hub.add(connection);
  return { connection, socket };
}

/** Lets time pass as it does: somebody looks every half second. */
function pass(ms: number): void {
  const end = time + ms;
  while (time < end) {
    time += 500;
    liveness.check();
  }
}

test("[ENV7] large messages pause reading long before there are too many, and all are handled in order", async () => {
  const { connection, socket } = connect();
  const held = Promise.withResolvers<void>();
  const handled: string[] = [];
  const handle = async (frame: string | Buffer) => {
    handled.push(String(frame).slice(0, 1));
    await held.promise;
  };
  const large = (name: string) => name.repeat(400 * 1024);
  for (const name of ["a", "b", "c"]) connection.receive(large(name), handle);
  expect(socket.isPaused).toBe(false);
  connection.receive(large("d"), handle);
  expect(socket.isPaused).toBe(true);
  held.resolve();
  await connection.finish();
  expect(handled).toEqual(["a", "b", "c", "d"]);
});

test("[ENV7] reading goes on once there is room for bytes again", async () => {
  const { connection, socket } = connect();
  const turns: (() => void)[] = [];
  const handle = () => new Promise<void>((resolve) => turns.push(resolve));
  connection.receive("a", handle);
  connection.receive("b".repeat(2 << 20), handle);
  expect(socket.isPaused).toBe(true);
  turns.shift()!();
  await Promise.resolve();
  expect([turns.length, socket.isPaused]).toEqual([1, false]);
});

test("[CON6] [ENV7] a client that is not listened to is not silent", () => {
  const { socket } = connect();
  socket.isPaused = true;
  pass(120 * second);
  liveness.sweep();
  expect(socket.closedWith).toBe(null);
  socket.isPaused = false;
  pass(59 * second);
  expect([socket.closedWith, socket.pings]).toEqual([null, 1]);
  pass(2 * second);
  expect(socket.closedWith).toBe(4102);
});

test("[CON6] nobody was silent while the process slept, or because the clock was set forward", () => {
  const { connection, socket } = connect();
  pass(10 * second);
  time += 3_600 * second;
  liveness.sweep();
  expect([socket.closedWith, connection.lastHeardAt]).toEqual([null, time - 10 * second]);
  pass(49 * second);
  expect([socket.closedWith, socket.pings]).toEqual([null, 1]);
  pass(2 * second);
  expect(socket.closedWith).toBe(4102);
});

test("[CON6] a clock that was set back keeps nobody from being pinged, nor who is silent from being found", () => {
  const { socket } = connect();
  pass(10 * second);
  time -= 3_600 * second;
  pass(59 * second);
  expect([socket.closedWith, socket.pings]).toEqual([null, 1]);
  pass(3 * second);
  expect(socket.closedWith).toBe(4102);
});
