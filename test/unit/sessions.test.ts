/** What becomes of a connection where an engine fails while it is being made live. */
import { beforeEach, expect, test } from "bun:test";
import * as v from "valibot";
import { configSchema } from "../../src/config/schema.ts";
import { jsonCodec } from "../../src/protocol/codec.ts";
import { StorageUnavailable } from "../../src/storage/ports.ts";
import { Counts } from "../../src/telemetry/counts.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { Connection, type Session } from "../../src/websocket/connection.ts";
import { Hub } from "../../src/websocket/hub.ts";
import { Sessions, type SessionsOptions } from "../../src/websocket/sessions.ts";

const config = v.parse(configSchema, { auth: { mode: "token" } });
const { logger } = createLogSink({ level: "silent", format: "json" });
const session: Session = { userId: "u1", roles: [], grants: [], expiresAt: null, expiryWarningAt: null };

let hub: Hub;
let sessions: Sessions;
let isAway: boolean;
let checkUser: () => Promise<void>;
let subscribed: string[];

beforeEach(() => {
  hub = new Hub();
  isAway = false;
  checkUser = async () => {};
  subscribed = [];
  const parts = {
    config,
    hub,
    cluster: { bus: { broadcast() {} } },
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
        if (isAway) throw new StorageUnavailable("away");
        return "k7m2x9qd.7";
      },
      async seen() {},
    },
    counts: new Counts(),
    now: () => Date.UTC(2026, 0, 2),
    newId: () => "m1",
    logger,
  };
  sessions = new Sessions(parts as unknown as SessionsOptions);
});

function anonymous(closedWith: number[] = []): Connection {
  const connection = new Connection({
    connectionId: "k1",
    deviceId: "d1",
    address: "192.0.2.1",
    format: "json",
    codec: jsonCodec,
    session: null,
    since: undefined,
    now: 0,
    queueMax: 64,
  });
  const socket = {
    send: () => 1,
    subscribe() {},
    isSubscribed: () => false,
    getBufferedAmount: () => 0,
    close: (code: number) => void closedWith.push(code),
  };
  connection.attach(socket as never, {
    onGone() {},
    lastWordWaitMs: 10_000,
    queueBytesLast: 1 << 20,
    compresses: () => false,
  });
  void sessions.open(connection);
  return connection;
}

test("[AUTH1] [SUB2] who authenticates while the storage is away is live after the next try, own topics included", async () => {
  const connection = anonymous();
  isAway = true;
  const request = { token: "t", device_id: undefined, since: undefined };
  await expect(sessions.authenticate(connection, request)).rejects.toBeInstanceOf(StorageUnavailable);
  expect(connection.isAuthenticated).toBe(false);
  isAway = false;
  const reply = await sessions.authenticate(connection, request);
  expect(reply).toMatchObject({ type: "auth.success", payload: { user_id: "u1", acked_cursor: "k7m2x9qd.7" } });
  await reply.after?.();
  expect(connection.isAuthenticated).toBe(true);
  expect(subscribed).toEqual(["k1"]);
});

test("[AUTH4] who cannot be checked again once it is live comes back: it may have been blocked meanwhile", async () => {
  const closedWith: number[] = [];
  const connection = anonymous(closedWith);
  let checks = 0;
  checkUser = async () => {
    if (++checks > 1) throw new StorageUnavailable("away");
  };
  await sessions.authenticate(connection, { token: "t", device_id: undefined, since: undefined });
  expect([checks, closedWith]).toEqual([2, [4100]]);
});
