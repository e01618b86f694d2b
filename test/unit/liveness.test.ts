/** Proves who is closed for time that has passed, with sockets that say what is done to them and a clock that the test turns. */
import { beforeEach, expect, test } from "bun:test";
import * as v from "valibot";
import { configSchema } from "../../src/config/schema.ts";
import { CloseCode } from "../../src/protocol/close.ts";
import type { Connection } from "../../src/websocket/connection.ts";
import type { UserSession } from "../../src/websocket/credentials.ts";
import { Hub } from "../../src/websocket/hub.ts";
import { Liveness } from "../../src/websocket/liveness.ts";
import { connectionOn } from "../support/server-connection.ts";

const second = 1_000;
const checkMs = 500;
const config = v.parse(configSchema, {});
const { pong_wait: pongWaitMs, write_wait: writeWaitMs, stale_connection_timeout: staleMs } = config.websocket;
const { timeout: authenticationMs, expiry_grace: graceMs } = config.auth;
let time: number;
let hub: Hub;
let liveness: Liveness;
/** Waits unread in the kernel: what clients have sent, and that they have taken what was sent to them. */
let unread: (() => void)[];

beforeEach(() => {
  time = Date.UTC(2026, 0, 2);
  unread = [];
  hub = new Hub();
  liveness = new Liveness({
    config,
    hub,
    tell() {},
    bufferBytesMax: 1 << 24,
    now: () => time,
    onceRead(run) {
      for (const read of unread.splice(0)) read();
      run();
    },
  });
  liveness.check();
});

/** A connection with a socket of its own. */
function open() {
  const socket = {
    isPaused: false,
    pings: 0,
    waiting: 0,
    closedWith: null as number | null,
    pause: () => void (socket.isPaused = true),
    resume: () => void (socket.isPaused = false),
    ping: () => socket.pings++,
    close: (code: number) => void (socket.closedWith = code),
    terminate() {},
    isSubscribed: () => false,
    getBufferedAmount: () => socket.waiting,
  };
  const connection = connectionOn(socket, { now: time });
  hub.add(connection);
  return { connection, socket };
}

/** A live connection. */
function connect(session: Partial<UserSession> = {}) {
  const opened = open();
  const { connection } = opened;
  connection.moveTo("authenticating");
  connection.assume({ userId: "anna", roles: [], grants: [], expiresAt: null, expiryWarningAt: null, ...session });
  connection.moveTo("live");
  return opened;
}

/** Lets time pass as it does: somebody looks every half second. */
function pass(ms: number): void {
  const end = time + ms;
  while (time < end) {
    time += checkMs;
    liveness.check();
  }
}

/** The loop does something else: the check comes so much late. */
function standStill(ms: number): void {
  time += checkMs + ms;
  liveness.check();
}

/** Has the client say something, which is read when the loop comes to it. */
const say = (connection: Connection) => unread.push(() => void (connection.lastHeardAt = time));

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

test("[CON7] [BAK2] who waits for a client goes on once nothing waits for it, though the platform has not said so", async () => {
  const { connection, socket } = connect();
  socket.waiting = 1_000;
  let isDrained = false;
  const drained = Promise.resolve(connection.drained()).then(() => void (isDrained = true));
  pass(second);
  await Promise.resolve();
  expect(isDrained).toBe(false);
  // Written along with something else: nothing of it is left to drain.
  socket.waiting = 0;
  pass(checkMs);
  await drained;
  expect([isDrained, connection.backpressureSince]).toEqual([true, 0]);
});

test("[CON6] nobody was silent while the process slept, or because the clock was set forward", () => {
  const { connection, socket } = connect();
  pass(10 * second);
  time += 3_600 * second;
  liveness.sweep();
  // Until the check that was due they could be heard.
  expect([socket.closedWith, connection.lastHeardAt]).toEqual([null, time - 10 * second - checkMs]);
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

for (const stallMs of [200, 1_500, 4_900, 30_000]) {
  test(`[CON6] what waits unread while the loop stands still for ${stallMs} ms is heard before anybody counts as silent`, () => {
    const { connection, socket } = connect();
    pass(pongWaitMs - checkMs / 2);
    say(connection);
    standStill(stallMs);
    expect([socket.closedWith, connection.lastHeardAt]).toEqual([null, time]);
  });

  test(`[CON6] ${stallMs} ms in which the loop stands still are not the client's: it has all its time to answer a ping`, () => {
    const { socket } = connect();
    const beforeMs = pongWaitMs - 2 * second;
    pass(beforeMs);
    standStill(stallMs);
    pass(second);
    expect([socket.closedWith, socket.pings]).toEqual([null, 1]);
    pass(second);
    expect(socket.closedWith).toBe(CloseCode.silent);
  });

  test(`[CON6] the sweep counts none of ${stallMs} ms in which the loop stood still, and hears first what waits`, () => {
    const { connection, socket } = connect();
    connection.lastHeardAt -= staleMs;
    say(connection);
    time += stallMs;
    liveness.sweep();
    expect(socket.closedWith).toBe(null);
  });

  test(`[AUTH1] ${stallMs} ms in which the loop stands still are not taken from the time to authenticate`, () => {
    const { socket } = open();
    pass(authenticationMs - second);
    standStill(stallMs);
    expect(socket.closedWith).toBe(null);
    pass(second);
    expect(socket.closedWith).toBe(CloseCode.authenticationTimeout);
  });

  test(`[CON7] ${stallMs} ms in which the loop stands still, and writes nothing, make no client slow`, () => {
    const { socket } = connect();
    pass(checkMs);
    socket.waiting = 1;
    pass(writeWaitMs - second);
    standStill(stallMs);
    expect(socket.closedWith).toBe(null);
    pass(2 * second);
    expect(socket.closedWith).toBe(CloseCode.slowConsumer);
  });

  test(`[AUTH3] a token that has come in time is not late because the loop stood still for ${stallMs} ms`, () => {
    const expiresAt = time + 2 * second;
    const { connection, socket } = connect({ expiresAt });
    const other = connect({ expiresAt });
    pass(2 * second + graceMs);
    // It is read before anybody is judged, and verified some turns later.
    standStill(stallMs);
    expect([socket.closedWith, other.socket.closedWith]).toEqual([null, null]);
    connection.assume({ ...connection, expiresAt: time + 60 * second });
    pass(checkMs);
    expect([socket.closedWith, other.socket.closedWith]).toEqual([null, CloseCode.tokenExpired]);
  });
}

test("[CON6] who is silent is found on a node whose every check is late, too", () => {
  const { socket } = connect();
  for (let checks = 0; checks < pongWaitMs / checkMs; checks++) standStill(2 * second);
  expect(socket.closedWith).toBe(null);
  standStill(2 * second);
  expect(socket.closedWith).toBe(CloseCode.silent);
});
