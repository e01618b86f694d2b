/** Proves how one connection reads what comes, with a socket that says what is done to it [ENV7]. */
import { expect, test } from "bun:test";
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
