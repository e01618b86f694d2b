/** Proves TLS: encrypted sockets, and certificates that change under them. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { makeCertificate } from "../support/certificates.ts";
import { Client } from "../support/client.ts";
import { type LogLine, type Service, startService } from "../support/service.ts";

let certificates: string;
let service: Service;
beforeAll(async () => {
  certificates = mkdtempSync(join(tmpdir(), "ws-tls-"));
  makeCertificate(certificates, "first.test");
  service = await startService({
    settings: {
      SERVER__TLS__CERT_FILE: join(certificates, "cert.pem"),
      SERVER__TLS__KEY_FILE: join(certificates, "key.pem"),
      AUTH__BEHIND_GATEWAY: "true",
    },
  });
});
afterAll(async () => {
  await service?.stop();
  rmSync(certificates, { recursive: true, force: true });
});

/** The name in the certificate that a new connection is shown. */
function shownName(): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connect({ host: "127.0.0.1", port: service.port, rejectUnauthorized: false }, () => {
    resolve(String(socket.getPeerCertificate().subject.CN));
    socket.destroy();
  });
  socket.on("error", reject);
  return promise;
}

async function enter(user_id: string): Promise<Client> {
  const client = await Client.connect(service.url, { query: { user_id } });
  await client.ask("subscribe", { topics: ["conversation:c1"] });
  return client;
}

let messages = 0;
/** One says something, and everybody else hears it once. */
async function says(sender: Client, listeners: Client[]): Promise<void> {
  const client_message_id = `m${++messages}`;
  await sender.ask("message.send", { conversation_id: "c1", client_message_id, content: "hello" });
  for (const listener of listeners) {
    await listener.next("message.new", (payload) => payload.client_message_id === client_message_id);
    await listener.settled();
    const heard = listener.all("message.new").filter(({ payload }) => payload.client_message_id === client_message_id);
    expect(heard).toHaveLength(1);
  }
}

/** Sends a SIGHUP, and gives back what the service says of it. */
function reread(): Promise<LogLine> {
  const before = service.logs.length;
  service.signal("SIGHUP");
  return service.logged((line) => service.logs.indexOf(line) >= before && line.msg.includes("certificates"));
}
const rotate = async () => (await reread()).level;

test("[END1] a port that a service with a certificate listens on is taken, also for another with one", async () => {
  const second = startService({
    settings: {
      SERVER__PORT: String(service.port),
      SERVER__TLS__CERT_FILE: join(certificates, "cert.pem"),
      SERVER__TLS__KEY_FILE: join(certificates, "key.pem"),
      AUTH__BEHIND_GATEWAY: "true",
    },
  });
  await expect(second.then((it) => it.stop())).rejects.toThrow(`server.port: 127.0.0.1:${service.port} is in use`);
});

test("[OPS4] a certificate is rotated under open sockets, which go on talking to those that come after", async () => {
  expect(service.url).toStartWith("wss://");
  const early = await enter("early");
  expect(await shownName()).toBe("first.test");

  makeCertificate(certificates, "second.test");
  expect(await rotate()).toBe("info");
  expect(await shownName()).toBe("second.test");
  const late = await enter("late");
  await says(early, [late]);
  await says(late, [early]);
  // Not only logged events: who types, and who subscribes anew on the former listener.
  await early.ask("unsubscribe", { topics: ["conversation:c1"] });
  await early.ask("subscribe", { topics: ["conversation:c1", "typing:c1"] });
  await late.ask("typing.start", { conversation_id: "c1" });
  await early.next("typing.start", ({ user_id }) => user_id === "late");

  // Once more, so that three listeners hold sockets.
  makeCertificate(certificates, "third.test");
  expect(await rotate()).toBe("info");
  expect(await shownName()).toBe("third.test");
  const latest = await enter("latest");
  await says(early, [late, latest]);
  await says(latest, [early, late]);
  expect((await fetch(`${service.http}/ready`, { tls: { rejectUnauthorized: false } })).status).toBe(200);

  // A listener whose last socket has gone is no more; nobody else notices.
  await early.close();
  await says(late, [latest]);
});

test("[OPS4] a broken new certificate keeps the former", async () => {
  const client = await enter("anna");
  const shown = await shownName();
  const cert = join(certificates, "cert.pem");
  writeFileSync(cert, "not a certificate\n");
  const { level, err } = await reread();
  expect(level).toBe("error");
  const message = expect.stringContaining(`server.tls.cert_file: "${cert}" must be a PEM file with a certificate`);
  expect(err).toEqual({ type: "ConfigError", message });
  expect(await shownName()).toBe(shown);

  rmSync(join(certificates, "key.pem"));
  expect(await rotate()).toBe("error");
  const other = await enter("ben");
  await says(client, [other]);

  makeCertificate(certificates, "mended.test");
  expect(await rotate()).toBe("info");
  expect(await shownName()).toBe("mended.test");
  await says(client, [other]);
});

test("[DRN] SIGTERM drains the sockets of every listener", async () => {
  const former = await enter("anna");
  makeCertificate(certificates, "last.test");
  expect(await rotate()).toBe("info");
  const newer = await enter("ben");
  service.signal("SIGTERM");
  for (const client of [former, newer]) expect(await client.closed).toMatchObject({ code: 1012 });
  expect(await service.exited).toBe(0);
});
