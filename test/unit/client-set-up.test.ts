/** Holds the client to telling what in its set-up cannot be, and what may be wrong where it is never let in. */
import { expect, test } from "bun:test";
import { Client, type ClientOptions } from "../../src/client/client.ts";
import { FakeServer } from "../../src/client/testing.ts";

const make = (options: object) => () => new Client({ url: "ws://fake/ws", ...options } as ClientOptions);

test("[CON3] a user or a device that is no identifier is told at once, by the option's name", () => {
  for (const name of ["userId", "deviceId"])
    for (const value of ["", "sp ace", "zoë", "a\n", "x".repeat(129), 5, null])
      expect(make({ userId: "anna", [name]: value })).toThrow(new RegExp(`^${name} must be 1 to 128 printable ASCII`));
  for (const value of ["a", "anna@example.com", "x".repeat(128)])
    expect(make({ userId: value, deviceId: value })).not.toThrow();
});

test("[MSG1] a conversation that cannot be is told at once", () => {
  const client = make({ userId: "anna" })();
  for (const id of ["", "sp ace", "x".repeat(129), undefined as never])
    expect(() => client.conversation(id)).toThrow(
      new TypeError("A conversation's id must be 1 to 128 printable ASCII characters, without spaces."),
    );
});

test("[MSG1] a content that cannot be is told, and shown nowhere", async () => {
  const conversation = make({ userId: "anna" })().conversation("c");
  for (const content of ["", undefined, null, 5, true, ["a"]] as never[]) {
    await expect(conversation.send(content)).rejects.toThrow(TypeError);
    await expect(conversation.edit("m", content)).rejects.toThrow(TypeError);
  }
  expect(conversation.current.messages).toEqual([]);
});

test("[AUTH1] who nobody is, is told at once", () => {
  expect(make({})).toThrow(
    new TypeError("One of userId, token and getToken is needed: else the server cannot know who this is."),
  );
  for (const options of [{ token: "t" }, { getToken: () => "t" }, { userId: "anna" }])
    expect(make(options)).not.toThrow();
});

/** A client, what it complains of, and what it has waited for. */
function started(server: FakeServer) {
  const client = new Client({ url: "ws://fake/ws", userId: "anna", webSocket: server.webSocket });
  const errors: unknown[] = [];
  const waited: string[] = [];
  client.on("error", (error) => errors.push(error));
  const hasWaited = (count: number) =>
    new Promise<void>((resolve) => {
      const stop = client.on("state", (state) => {
        if (state.status === "waiting") waited.push(state.reason);
        if (waited.length < count) return;
        stop();
        resolve();
      });
    });
  client.start();
  return { client, errors, waited, hasWaited };
}

test("[CON4] a server that has never let it in is an error after three refusals, once", async () => {
  const server = new FakeServer();
  server.stop();
  const { client, errors, waited, hasWaited } = started(server);
  client.on("error", () => expect(waited).toHaveLength(3));
  await hasWaited(4);
  expect(waited).toEqual(["refused", "refused", "refused", "refused"]);
  expect(errors).toEqual([expect.objectContaining({ name: "ClientError", code: "refused" })]);
  expect(String(errors[0])).toMatch(/ws:\/\/fake\/ws.*auth\.mode.*allowed_origins/);
  await client.stop();
});

test("[CON4] one that has let it in and is away is no error", async () => {
  const server = new FakeServer();
  const { client, errors, waited, hasWaited } = started(server);
  await client.request("ping", {});
  const isAway = hasWaited(4);
  server.stop();
  await isAway;
  expect(waited).toEqual(["closed", "refused", "refused", "refused"]);
  expect(errors).toEqual([]);
  await client.stop();
});
