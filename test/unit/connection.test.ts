/** Proves how one connection reads what comes, with a socket that says what is done to it [ENV7]. */
import { expect, test } from "bun:test";
import { nextTurn } from "../../src/ground/next-turn.ts";
import { connectionOn } from "../support/server-connection.ts";

/** A live connection with a socket of its own. */
function connect() {
  const socket = {
    isPaused: false,
    pause: () => void (socket.isPaused = true),
    resume: () => void (socket.isPaused = false),
  };
  const connection = connectionOn(socket);
  connection.moveTo("authenticating");
  connection.moveTo("live");
  return { connection, socket };
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

test("[ENV7] what is being handled is told once something waits behind it, also where that came first", async () => {
  const { connection } = connect();
  const held = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const told: string[] = [];
  let handled = 0;
  const handle = async (frame: string | Buffer) => {
    const turn = held[handled++]!.promise;
    await Promise.resolve();
    connection.whenFollowed(() => void told.push(String(frame)));
    await turn;
  };
  connection.receive("a", handle);
  await nextTurn();
  expect(told).toEqual([]);
  for (const name of ["b", "c"]) connection.receive(name, handle);
  expect(told).toEqual(["a"]);
  held[0]!.resolve();
  await nextTurn();
  expect(told).toEqual(["a", "b"]);
  held[1]!.resolve();
  held.push(Promise.withResolvers<void>());
  await nextTurn();
  expect(told).toEqual(["a", "b"]);
  held[2]!.resolve();
  await connection.finish();
});
