/** Proves the log: no secrets and no contents, one id from message to event, and a reader that stalls stalls nobody. */
import { expect, test } from "bun:test";
import { closeSync, openSync, readSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { undoAfterEach } from "../support/after-each.ts";
import { Client } from "../support/client.ts";
import { program } from "../support/program.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startService } from "../support/service.ts";

const { defer, newFolder, stopped } = undoAfterEach();

const secret = "a secret of at least thirty-two bytes";
const callId = "0197d3a0-0000-7000-8000-000000000001";

async function mint(user: string): Promise<string> {
  const child = Bun.spawn([...program, "token", "--user", user], {
    cwd: tmpdir(),
    env: { WS__AUTH__SECRET: secret },
    stdout: "pipe",
  });
  return (await child.stdout.text()).trim();
}

test("[OPS3] tokens, contents and descriptions of calls never appear, at any level", async () => {
  const service = stopped(
    await startService({ settings: { LOG__LEVEL: "debug", AUTH__MODE: "token", AUTH__SECRET: secret } }),
  );
  const [annasToken, bensToken] = await Promise.all([mint("anna"), mint("ben")]);
  // By the URL, by a header, and by a message.
  const anna = await Client.connect(service.url, { query: { token: annasToken } });
  const ben = await Client.connect(service.url, { headers: { Authorization: `Bearer ${bensToken}` } });
  await anna.ask("authenticate", { token: annasToken });
  const stranger = await Client.open(service.url);
  expect((await stranger.request("authenticate", { token: "forged-token" })).type).toBe("auth.failed");
  expect((await fetch(`${service.http}/ws?token=forged-token`)).status).not.toBe(101);

  for (const client of [anna, ben]) await client.ask("subscribe", { topics: ["conversation:c1"] });
  const content = "content-told-to-ben-only";
  await anna.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content });
  await ben.next("message.new");
  await anna.ask("presence.update", { status: "away", status_text: "text-of-a-status" });
  await anna.ask("call.offer", { call_id: callId, to_user_id: "ben", media: "audio", sdp: "sdp-of-a-call" });
  await ben.next("call.incoming");
  // A request that is refused is no less private.
  await anna.request("message.send", { conversation_id: "c1", content });
  await anna.request("call.answer", { call_id: "sdp-of-a-call", sdp: "sdp-of-a-call" });
  anna.socket.send(`{"content":"${content}`);
  await anna.settled();

  service.signal("SIGTERM");
  await service.exited;
  await service.logged(({ msg }) => msg === "stopped");
  const text = JSON.stringify([service.logs, service.errors]);
  expect(text).toContain("message received");
  const secrets = [annasToken, bensToken, "forged-token", secret, content, "text-of-a-status", "sdp-of-a-call"];
  for (const part of secrets) expect(text).not.toContain(part);
});

test("[MSG1] one correlation id leads from the message received to the event published", async () => {
  const service = stopped(await startService({ settings: { LOG__LEVEL: "debug" } }));
  const anna = await Client.connect(service.url, { query: { user_id: "anna" } });
  const { connection_id } = (await anna.next("connected")).payload;
  const id = anna.send("message.send", { conversation_id: "c1", client_message_id: "m1", content: "hello" });
  const { payload: ack } = await anna.find(({ reply_to }) => reply_to === id);
  const published = await service.logged(({ msg }) => msg === "event published");
  expect(published).toMatchObject({
    correlation_id: `${connection_id}:${id}`,
    message_id: ack.message_id,
    topic: "conversation:c1",
    seq: ack.seq,
    position: ack.position,
    duplicate: false,
  });
  const received = service.logs.find(({ correlation_id }) => correlation_id === published.correlation_id);
  expect(received).toMatchObject({ msg: "message received", type: "message.send", user_id: "anna", connection_id });
  expect(service.logs.indexOf(received!)).toBeLessThan(service.logs.indexOf(published));
});

test("[OPS3] nobody reading the log holds up neither the sockets nor the end", async () => {
  const folder = newFolder();
  const pipe = join(folder, "log");
  expect(Bun.spawnSync(["mkfifo", pipe]).exitCode).toBe(0);
  // Held open at both ends by the test, so that it neither fills a buffer of ours nor breaks.
  const held = openSync(pipe, "r+");
  defer(() => closeSync(held));
  const service = Bun.spawn([...program, "serve"], {
    cwd: folder,
    env: {
      WS__SERVER__PORT: "0",
      WS__SERVER__DRAIN_WINDOW: "0s",
      WS__LOG__LEVEL: "debug",
      WS__RATE_LIMITS__ENABLED: "false",
      // Few, so that nothing is warned of before.
      WS__WEBSOCKET__MAX_CONNECTIONS: "100",
      HOME: folder,
    },
    stdout: held,
    stderr: "ignore",
  });
  defer(async () => {
    service.kill("SIGKILL");
    await service.exited;
  });
  // The first line says where it listens; after it nothing is ever read again.
  const buffer = Buffer.alloc(4_096);
  const line = buffer.toString("utf8", 0, readSync(held, buffer)).split("\n")[0]!;
  const { url } = JSON.parse(line) as { url: string };
  const anna = await Client.connect(url, { query: { user_id: "anna" } });
  // At least 100 bytes of log each: far more than a pipe (64 KiB) and the logger's own buffer (1 MiB) hold.
  for (let sent = 0; sent < 20_000; sent += 1_000) {
    const ids = Array.from({ length: 1_000 }, () => anna.send("ping"));
    await anna.find(({ reply_to }) => reply_to === ids.at(-1));
  }
  await anna.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "still quick" });
  service.kill("SIGTERM");
  expect(await anna.closed).toMatchObject({ code: 1012 });
  expect(await service.exited).toBe(0);
}, 60_000);

test("[CON1] refused connections are summed up by reason in one line, the rest of them at the stop", async () => {
  const service = stopped(
    await startService({
      settings: { SERVER__ALLOWED_ORIGINS: "https://app.example.com", WEBSOCKET__MAX_CONNECTIONS: "1" },
    }),
  );
  await RawSocket.refused(service.url, { query: { user_id: "anna" }, headers: { Origin: "https://evil.example" } });
  const queries: Record<string, string>[] = [{}, { user_id: "anna", roles: "god" }, { user_id: "anna", roles: "king" }];
  for (const query of queries) {
    await RawSocket.refused(service.url, { query });
  }
  await Client.connect(service.url, { query: { user_id: "anna" } });
  await RawSocket.refused(service.url, { query: { user_id: "ben" } });
  // A request for no upgrade has not tried.
  await fetch(`${service.http}/ws`);
  service.signal("SIGTERM");
  await service.exited;
  await service.logged(({ msg }) => msg === "stopped");
  const lines = service.logs.filter(({ msg }) => msg === "connections refused");
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatchObject({
    level: "info",
    total: 5,
    refused: {
      "400 bad_query: roles must be of service, admin.": 2,
      "401 not_authenticated: user_id is missing.": 1,
      "403 forbidden: This origin may not connect.": 1,
      "429 limit_exceeded: This node has as many connections as it may.": 1,
    },
  });
});

test("[OPS3] what clients choose makes no line of its own in the log, steers no terminal and passes for no other field", async () => {
  const folder = newFolder();
  const settings = {
    WS__SERVER__PORT: "0",
    WS__SERVER__DRAIN_WINDOW: "0s",
    WS__LOG__FORMAT: "pretty",
    WS__LOG__LEVEL: "debug",
  };
  const child = Bun.spawn([...program, "serve"], {
    cwd: folder,
    env: { PATH: process.env.PATH ?? "", ...settings },
    stdout: "pipe",
  });
  defer(() => child.kill("SIGKILL"));
  let log = "";
  const { promise: listening, resolve } = Promise.withResolvers<string>();
  const isRead = (async () => {
    const decoder = new TextDecoder();
    for await (const part of child.stdout) {
      log += decoder.decode(part, { stream: true });
      const url = /listening .*url=(\S+)/.exec(log)?.[1];
      if (url !== undefined) resolve(url);
    }
  })();
  const client = await Client.connect(await listening, { query: { user_id: "mallory" } });
  const hostile = "x\n15:00:00.000 ERROR disk is on fire user_id=root\u001b[2J\u009b1m\u202e\u2066\u200b\u061c\ufeff";
  client.socket.send(JSON.stringify({ id: hostile, type: "admin.nodes", payload: {} }));
  await client.find(({ reply_to }) => reply_to === hostile);
  child.kill("SIGTERM");
  await Promise.all([child.exited, isRead]);
  expect(log).toContain("disk is on fire");
  expect(log.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  for (const line of log.trimEnd().split("\n"))
    expect(line).toMatch(/^\d\d:\d\d:\d\d\.\d{3} (DEBUG|INFO |WARN |ERROR) \w/);
  expect(log).not.toMatch(/^15:00:00\.000/m);
  // Within quotes, so that it is one field's.
  expect(log).toMatch(/="[^"]*x\\n15:00:00\.000 ERROR disk is on fire user_id=root\\u001b\[2J\\u009b1m\\u202e/);
});
