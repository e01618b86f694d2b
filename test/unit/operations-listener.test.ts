/** Proves who may open a socket on the internal listener where nobody has to prove who they are [END3]. */
import { afterEach, expect, test } from "bun:test";
import { type About, type OperationsListener, startListener } from "../../src/operations/listener.ts";

let listener: OperationsListener | null = null;
afterEach(() => listener?.stop());

function listen(auth: About["auth"], { isOfThisMachine }: { isOfThisMachine: boolean }): OperationsListener {
  listener = startListener<undefined>({
    listen: { host: "127.0.0.1", port: 0 },
    token: "a token",
    metrics: { contentType: "text/plain", text: async () => "" },
    about: { node_id: "n1", version: "1.0.0", auth, show_payloads: false },
    sockets: {
      handlers: { message() {} },
      answer: async (request) => new Response(`origin: ${request.headers.get("origin")}`),
      addressOf: () => "192.0.2.1",
      isOfThisMachine: () => isOfThisMachine,
      add() {},
      remove() {},
    },
    guesses: { mayFail: () => ({ allowed: true }), noteFailure() {} },
    consoleFiles: async () => new Map(),
    isLoopback: () => true,
    onFault() {},
  });
  return listener;
}

const ask = async ({ url }: OperationsListener, headers: Record<string, string> = {}) => {
  const response = await fetch(`${url}/ws?operations_token=a%20token`, { headers });
  return [response.status, await response.text()];
};

test("[END3] [CON2] in trusted mode only this machine may connect; with tokens whoever has the listener's", async () => {
  expect(await ask(listen("trusted", { isOfThisMachine: false }))).toEqual([
    403,
    expect.stringContaining("come by a tunnel"),
  ]);
  await listener!.stop();
  expect(await ask(listen("trusted", { isOfThisMachine: true }))).toEqual([200, "origin: null"]);
  await listener!.stop();
  expect(await ask(listen("token", { isOfThisMachine: false }))).toEqual([200, "origin: null"]);
});

test("[END3] [CON1] the origin is checked against the listener's own address, and the public rules do not see it", async () => {
  const { url } = listen("token", { isOfThisMachine: false });
  expect(await ask(listener!, { origin: url })).toEqual([200, "origin: null"]);
  expect(await ask(listener!, { origin: "https://chat.example.com" })).toEqual([403, expect.any(String)]);
});
