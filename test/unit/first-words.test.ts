/** Proves that what a connection is told as it comes is written together, before anything else, and not kept for longer than a turn. */
import { beforeEach, expect, test } from "bun:test";
import { nextTurn } from "../../src/ground/next-turn.ts";
import type { Connection } from "../../src/websocket/connection.ts";
import { FirstWords } from "../../src/websocket/first-words.ts";
import { Listeners } from "../../src/websocket/listeners.ts";
import { connectionOn } from "../support/server-connection.ts";

/** As the platform says it of a frame: 0 where it was dropped, for the buffer is full. */
let taken: 0 | 1;
/** Types of messages, and what else reaches the socket, in their order; those of one write are joined. */
let written: string[];
let firstWords: FirstWords;
let connection: Connection;

beforeEach(() => {
  written = [];
  taken = 1;
  firstWords = new FirstWords();
  let together: string[] | null = null;
  const socket = {
    send(frame: string) {
      const { type } = JSON.parse(frame) as { type: string };
      if (together === null) written.push(type);
      else together.push(type);
      return taken;
    },
    cork(write: () => void) {
      together = [];
      write();
      written.push(together.join(" + "));
      together = null;
    },
    getBufferedAmount: () => 0,
    close: () => void written.push("close"),
  };
  connection = connectionOn(socket, { firstWords });
});

const tell = (type: string) => connection.sendMessage({ id: "m1", type, payload: "{}", at: 0 });

test("[SUB2] what a connection is told until it has settled in is one write, in its order", () => {
  connection.holdBack();
  tell("connected");
  tell("subscribed");
  expect(written).toEqual([]);
  connection.speak();
  tell("pong");
  expect(written).toEqual(["connected + subscribed", "pong"]);
});

test("[CON5] what is published before it has settled in comes after `connected`", () => {
  const listeners = new Listeners({ pays: () => false }, firstWords);
  listeners.addBeside({ subscriberCount: () => 1, publish: () => void written.push("event") } as never);
  connection.holdBack();
  tell("connected");
  listeners.publish("user:u1", "{}");
  tell("subscribed");
  expect(written).toEqual(["connected", "event", "subscribed"]);
});

test("[CON5] where settling in takes longer it is told of what there is at the end of the turn", async () => {
  connection.holdBack();
  tell("connected");
  await nextTurn();
  expect(written).toEqual(["connected"]);
});

test("[ENV5] a connection that is closed meanwhile has been told before", async () => {
  connection.holdBack();
  tell("connected");
  connection.close(4011, "revoked");
  expect(written).toEqual(["connected", "close"]);
  await nextTurn();
  expect(written).toEqual(["connected", "close"]);
});

test("[SUB5] one that has gone is not written to, nor remembered", async () => {
  connection.holdBack();
  tell("connected");
  connection.noteGone(1006);
  await nextTurn();
  expect(written).toEqual([]);
});

test("[LOG5] a replay among them is written as soon as it is to be taken", async () => {
  connection.holdBack();
  tell("connected");
  await connection.drained();
  expect(written).toEqual([]);
  tell("message.new");
  await connection.drained();
  expect(written).toEqual(["connected + message.new"]);
});

test("[CON7] where its first words find no room as it is closed it is closed once, as too slow", () => {
  connection.holdBack();
  tell("connected");
  taken = 0;
  connection.close(1000, "bye");
  expect(connection.isClosed).toBeTrue();
  expect(written.filter((it) => it === "close")).toHaveLength(1);
});
