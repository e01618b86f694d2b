/** Proves that Redis of a private authority, which asks for certificates, is reached however it is run, and nobody else is trusted. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import type { ClientTlsFiles } from "../../src/config/client-tls.ts";
import { record } from "../contract/bus.ts";
import { makeAuthority } from "../support/certificates.ts";
import { isDown, isUp, redisNode, startNodes } from "../support/cluster.ts";
import { freePorts } from "../support/free-ports.ts";
import { type RedisServer, startRedis, startRedisCluster } from "../support/redis.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

let folder: string;
let files: ClientTlsFiles;
/** Makes a server speak TLS, and only to who shows a certificate. */
let secured: string[];
let server: RedisServer;
let tlsPort: number;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ws-redis-tls-"));
  const authority = makeAuthority(folder);
  const write = (name: string, { cert, key }: { cert: string; key: string }) => {
    writeFileSync(join(folder, `${name}.pem`), cert);
    writeFileSync(join(folder, `${name}.key`), key);
  };
  write("server", authority.issue("127.0.0.1"));
  write("client", authority.issue("ws-service"));
  const at = (name: string) => join(folder, name);
  files = { ca_file: at("ca.pem"), cert_file: at("client.pem"), key_file: at("client.key") };
  secured = [
    "--tls-cert-file",
    at("server.pem"),
    "--tls-key-file",
    at("server.key"),
    "--tls-ca-cert-file",
    at("ca.pem"),
  ];
  secured.push("--tls-auth-clients", "yes");
  tlsPort = (await freePorts(1))[0]!;
  server = await startRedis({ settings: ["--tls-port", String(tlsPort), ...secured] });
});
afterAll(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Two nodes see each other, and hear each other on topics of many slots. */
async function expectJoined(url: string): Promise<void> {
  const { nodes, close } = await startNodes(url, ["n1", "n2"], { tls: files });
  try {
    await until(async () => (await isUp(nodes[0]!)) && (await isUp(nodes[1]!)));
    expect((await nodes[0]!.nodes.list()).map(({ nodeId }) => nodeId)).toEqual(["n1", "n2"]);
    const topics = Array.from({ length: 10 }, (_, at) => `typing:c${at}`);
    await Promise.all(topics.map((topic) => nodes[1]!.bus.watch(topic)));
    const heard = record(nodes[1]!.bus);
    for (const topic of topics)
      nodes[0]!.bus.publish(topic, { kind: "ephemeral", topic, id: topic, type: "typing.start", payload: "{}", at: 1 });
    await heard.count(topics.length);
  } finally {
    await close();
  }
}

test("[END2] one server, a Redis Cluster and a Sentinel's master are reached with a certificate of a private authority", async () => {
  await expectJoined(`rediss://127.0.0.1:${tlsPort}`);

  const group = await startRedisCluster({ tls: secured });
  await expectJoined(group.url).finally(() => group.stop());

  const [sentinelPort] = await freePorts(1);
  const configFile = join(folder, "sentinel.conf");
  await Bun.write(configFile, `sentinel monitor main 127.0.0.1 ${tlsPort} 1\n`);
  const settings = ["--sentinel", "--tls-port", String(sentinelPort), "--tls-replication", "yes", ...secured];
  const sentinel = await startRedis({ configFile, settings });
  await expectJoined(`redis+sentinel://127.0.0.1:${sentinelPort}/main?tls=true`).finally(() => sentinel.stop());
});

test("[END2] a server of an authority that is not trusted, and one that is not shown a certificate, are told at the start", async () => {
  const refusalOf = async (tls: ClientTlsFiles | null) => {
    const node = redisNode(`rediss://127.0.0.1:${tlsPort}`, "n1", { tls });
    return node.start().then(
      () => node.stop().then(() => "it has started"),
      (error: Error) => error.message,
    );
  };
  expect(await refusalOf(null)).toMatch(/certificate|UNABLE|SELF_SIGNED/i);
  expect(await refusalOf({ ...files, ca_file: null })).toMatch(/certificate|UNABLE|SELF_SIGNED/i);
  expect(await refusalOf(files)).toBe("it has started");
});

test("[END2] files that were replaced are shown with the next connection", async () => {
  const own = { ...files, cert_file: join(folder, "own.rotated.pem"), key_file: join(folder, "own.rotated.key") };
  const elsewhere = mkdtempSync(join(tmpdir(), "ws-stranger-"));
  const stranger = makeAuthority(elsewhere).issue("stranger");
  rmSync(elsewhere, { recursive: true, force: true });
  const showOwn = async () => {
    await Bun.write(own.cert_file, Bun.file(join(folder, "client.pem")));
    await Bun.write(own.key_file, Bun.file(join(folder, "client.key")));
  };
  await showOwn();
  const node = redisNode(`rediss://127.0.0.1:${tlsPort}`, "n1", { tls: own });
  const operator = new Redis(server.url);
  try {
    await node.start();
    await Bun.write(own.cert_file, stranger.cert);
    await Bun.write(own.key_file, stranger.key);
    for (const type of ["normal", "pubsub"]) await operator.call("client", "kill", "type", type, "skipme", "yes");
    await until(() => isDown(node));
    await showOwn();
    await until(() => isUp(node));
  } finally {
    operator.disconnect();
    await node.stop();
  }
});
