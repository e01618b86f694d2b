/** Proves that a refused WebSocket is told with the server's reason where there is one, and never waits for it for ever [CON1]. */
import { expect, test } from "bun:test";
import { createServer, type Socket } from "node:net";
import { askWhyRefused, refusedStatus } from "../../src/commands/refusal.ts";

const reason = JSON.stringify({ code: "user_disabled", message: "This user is disabled." });

/** Tells what is said of a refusal with 403 where the server answers the second time with this text. */
async function saidOf(answer: string): Promise<{ said: string; asked: string }> {
  const { promise: asked, resolve: noteAsked } = Promise.withResolvers<string>();
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("data", (bytes) => {
      noteAsked(bytes.toString());
      socket.write(answer);
    });
  });
  const port = await new Promise<number>((listening) =>
    server.listen(0, "127.0.0.1", () => listening((server.address() as { port: number }).port)),
  );
  const url = new URL(`ws://127.0.0.1:${port}/ws?user_id=anna`);
  try {
    return { said: await askWhyRefused(403, { url, headers: { authorization: "Bearer t" } }), asked: await asked };
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

const http = (status: number, body: string) => `HTTP/1.1 ${status} X\r\ncontent-length: ${body.length}\r\n\r\n${body}`;

test("[CON1] the reason is asked for with the same request, without the key of a WebSocket", async () => {
  const { said, asked } = await saidOf(http(403, reason));
  expect(said).toBe("HTTP 403 user_disabled: This user is disabled.");
  expect(asked).toStartWith("GET /ws?user_id=anna HTTP/1.1\r\n");
  expect(asked).toMatch(/^authorization: Bearer t\r$/im);
  expect(asked).toMatch(/^upgrade: websocket\r$/im);
  expect(asked).not.toMatch(/^sec-websocket-key/im);
});

for (const [title, answer] of [
  ["another status", http(503, reason)],
  ["a page", http(403, "<html>")],
  ["JSON of somebody else", http(403, "[1]")],
  ["more than anybody reads", http(403, " ".repeat(1_000_000) + reason)],
  ["a WebSocket", "HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"],
] as const) {
  test(`[CON1] where the second answer is ${title}, the status of the first is told alone`, async () => {
    expect((await saidOf(answer)).said).toBe("HTTP 403");
  });
}

test("[CON1] a connection that failed otherwise was not refused", () => {
  expect(refusedStatus("WebSocket connection to 'ws://h/ws' failed: Expected 101 status code: 401")).toBe(401);
  expect(refusedStatus("WebSocket connection to 'ws://h/ws' failed: Failed to connect")).toBeNull();
});
