/** Proves what becomes of a connection where an engine fails while it is being made live. */
import { beforeEach, expect, test } from "bun:test";
import * as v from "valibot";
import { configSchema } from "../../src/config/schema.ts";
import { InvariantBroken } from "../../src/ground/assert.ts";
import { nextTurn } from "../../src/ground/next-turn.ts";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { codecs } from "../../src/protocol/codecs.ts";
import type { DeviceOfUser } from "../../src/storage/ports.ts";
import { createTell } from "../../src/subscription/tell.ts";
import { Counts } from "../../src/telemetry/counts.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { CleanUp, type CleanUpOptions } from "../../src/websocket/clean-up.ts";
import { createCompression } from "../../src/websocket/compression.ts";
import { Connection } from "../../src/websocket/connection.ts";
import type { UserSession } from "../../src/websocket/credentials.ts";
import { FirstWords } from "../../src/websocket/first-words.ts";
import { Hub } from "../../src/websocket/hub.ts";
import { Listeners } from "../../src/websocket/listeners.ts";
import { Registration, type RegistrationOptions } from "../../src/websocket/registration.ts";
import { Server, type ServerOptions } from "../../src/websocket/server.ts";
import { Sessions, type SessionsOptions } from "../../src/websocket/sessions.ts";
import { Watches } from "../../src/websocket/watches.ts";
import { createHandClock, type HandClock } from "../support/hand-clock.ts";
import { connectionOn, plainConnection } from "../support/server-connection.ts";

const config = v.parse(configSchema, { auth: { mode: "token" } });
const { logger } = createLogSink({ level: "silent", format: "json" });
const session: UserSession = { userId: "u1", roles: [], grants: [], expiresAt: null, expiryWarningAt: null };

let hub: Hub;
let sessions: Sessions;
let cleanUp: CleanUp;
let counts: Counts;
let isAway: boolean;
let checkUser: () => Promise<void>;
let subscribed: string[];
/** Devices of each statement that notes who has come. */
let noted: string[][];
let clock: HandClock;
let registration: Registration;

beforeEach(() => {
  hub = new Hub();
  counts = new Counts();
  isAway = false;
  checkUser = async () => {};
  subscribed = [];
  noted = [];
  clock = createHandClock({ settled: nextTurn });
  const parts = {
    config,
    hub,
    bus: { broadcast() {} },
    retentionMs: 60_000,
    atOnce: 8,
    quota: { identify() {}, leave() {} },
    credentials: { verify: async () => ({ ...session, deviceId: null }), checkUser: () => checkUser() },
    presence: { connect: async () => ({ accepted: true, replaced: null }), disconnect: async () => {} },
    typing: { stopAll() {} },
    calls: { deviceDisconnected: async () => {} },
    subscriptions: {
      forget() {},
      async subscribe({ connectionId }: Connection) {
        subscribed.push(connectionId);
        return { topics: [], rejected: [], cursor: "k7m2x9qd.0" };
      },
    },
    cursors: {
      async acknowledged() {
        if (isAway) throw new Unavailable("storage", "away");
        return "k7m2x9qd.7";
      },
      async seen(devices: DeviceOfUser[]) {
        noted.push(devices.map(({ deviceId }) => deviceId));
        if (isAway) throw new Unavailable("storage", "away");
      },
    },
    timers: clock,
    counts,
    now: () => Date.UTC(2026, 0, 2),
    tell: createTell({ newId: () => "m1", now: () => Date.UTC(2026, 0, 2) }),
    logger,
  };
  registration = new Registration(parts as unknown as RegistrationOptions);
  sessions = new Sessions({ ...parts, registration } as unknown as SessionsOptions);
  cleanUp = new CleanUp(parts as unknown as CleanUpOptions);
});

function anonymous(closedWith: number[] = [], frames: string[] = []): Connection {
  const socket = {
    send: (frame: string) => frames.push(frame),
    cork: (write: () => void) => write(),
    subscribe() {},
    isSubscribed: () => false,
    getBufferedAmount: () => 0,
    close: (code: number) => void closedWith.push(code),
  };
  const connection = connectionOn(socket);
  void sessions.open(connection);
  return connection;
}

test("[AUTH1] [SUB2] who authenticates while the storage is away is live after the next try, own topics included", async () => {
  const connection = anonymous();
  isAway = true;
  const request = { token: "t", device_id: undefined, since: undefined };
  await expect(sessions.authenticate(connection, request)).rejects.toBeInstanceOf(Unavailable);
  expect(connection.isAuthenticated).toBe(false);
  isAway = false;
  const reply = await sessions.authenticate(connection, request);
  expect(reply).toMatchObject({ type: "auth.success", payload: { user_id: "u1", acked_cursor: "k7m2x9qd.7" } });
  await reply.after?.();
  expect(connection.isAuthenticated).toBe(true);
  expect(subscribed).toEqual(["k1"]);
});

test("[ENV5] what a frame's handler throws ends its connection with 4100, and not the process", async () => {
  const broken = new InvariantBroken("connection_state", { from: "closed", to: "live" });
  const config = v.parse(configSchema, { server: { port: 0 } });
  const compression = createCompression(config);
  const firstWords = new FirstWords();
  const server = new Server({
    config,
    compression,
    listeners: new Listeners(compression, firstWords),
    firstWords,
    coalescer: { bringLevel() {}, bringLevelOn() {}, passBy() {} },
    router: { route: (_: unknown, frame: string) => (frame === "well" ? undefined : fail()) },
    upgrades: { admit: async () => ({ connection: new Connection(plainConnection), subprotocol: null }) },
    sessions,
    cleanUp,
    hub,
    counts: new Counts(),
    watches: new Watches({ codecs, showsPayloads: false, now: Date.now, logger: logger as never }),
    logger,
    now: Date.now,
    sharesPort: false,
  } as unknown as ServerOptions);
  const fail = () => {
    throw broken;
  };
  await server.start();
  const open = async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${server.port}/ws`);
    await new Promise((resolve) => (socket.onmessage = resolve));
    return socket;
  };
  const [struck, spared] = [await open(), await open()];
  const closed = new Promise<CloseEvent>((resolve) => (struck.onclose = resolve));
  struck.send("ill");
  expect((await closed).code).toBe(4100);
  expect(counts.broken.connection_state).toBe(1);
  expect(spared.readyState).toBe(WebSocket.OPEN);
  expect(hub.size).toBe(1);
  await server.stop();
});

test("[AUTH4] who cannot be checked again once it is live comes back before it is told that it is subscribed: it may have been blocked meanwhile", async () => {
  const closedWith: number[] = [];
  const frames: string[] = [];
  const connection = anonymous(closedWith, frames);
  const again = Promise.withResolvers<void>();
  let checks = 0;
  checkUser = async () => {
    if (++checks > 1) await again.promise;
  };
  const reply = await sessions.authenticate(connection, { token: "t", device_id: undefined, since: undefined });
  const settled = reply.after?.();
  await nextTurn();
  expect([checks, subscribed, closedWith]).toEqual([2, ["k1"], []]);
  again.reject(new Unavailable("storage", "away"));
  await settled;
  expect(closedWith).toEqual([4100]);
  expect(frames.map((frame) => JSON.parse(frame).type)).toEqual(["connected"]);
});

test("[LOG6] who has come is noted by one statement for those of a second, again after it has failed, and before the end", async () => {
  const come = async (token: string, connectionId: string) => {
    const connection = new Connection({ ...plainConnection, connectionId, deviceId: token });
    await registration.register(connection, session);
  };
  await come("phone", "k1");
  await come("tablet", "k2");
  expect(noted).toEqual([]);
  await clock.pass(1_000);
  expect(noted).toEqual([["phone", "tablet"]]);
  isAway = true;
  await come("phone", "k3");
  await clock.pass(1_000);
  isAway = false;
  await come("phone", "k4");
  await registration.stop();
  expect(noted).toEqual([["phone", "tablet"], ["phone"], ["phone"]]);
  expect(clock.waiting()).toBe(0);
});
