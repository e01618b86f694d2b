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

test("[AUTH1] who nobody is, is told at once", () => {
  expect(make({})).toThrow(
    new TypeError("One of userId, token and getToken is needed: else the server cannot know who this is."),
  );
  for (const options of [{ token: "t" }, { getToken: () => "t" }, { userId: "anna" }])
    expect(make(options)).not.toThrow();
});

test("[CON4] a server that has never let it in is an error after three refusals, once; one that did and is away is none", async () => {
  const server = new FakeServer();
  server.stop();
  const client = new Client({ url: "ws://fake/ws", userId: "anna", webSocket: server.webSocket });
  const errors: any[] = [];
  const states: string[] = [];
  client.on("error", (error) => errors.push(error, states.length));
  const refusals = (count: number) =>
    new Promise<void>((resolve) => {
      const stop = client.on("state", (state) => {
        if (state.status === "waiting") states.push(state.reason);
        if (states.length < count) return;
        stop();
        resolve();
      });
    });
  client.start();
  await refusals(4);
  expect(states).toEqual(["refused", "refused", "refused", "refused"]);
  expect(errors).toEqual([expect.objectContaining({ name: "ClientError", code: "refused" }), 3]);
  expect(errors[0].message).toMatch(/ws:\/\/fake\/ws.*auth\.mode.*allowed_origins/);
  server.start();
  await client.request("ping", {});
  server.stop();
  states.length = 0;
  await refusals(4);
  expect(errors).toHaveLength(2);
  await client.stop();
});
