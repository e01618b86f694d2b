/** Memory: bytes for each authenticated connection and each topic, beside a bare `Bun.serve` with the same native topics. */
import { readOptions } from "./support/command-line.ts";
import { present, startMeasured, startProgram } from "./support/measured.ts";

readOptions({});

const connections = 10_000;
/** Memory that the allocator is about to give back does not count. */
const settleMs = 3_000;
const rows = [];
let base: { service: number; bare: number } | null = null;
for (const topics of [0, 10, 100]) {
  const service = await bytesPerConnection("logged", topics);
  const bare = await bytesPerConnection("bare", topics);
  const bareAlone: number = base?.bare ?? bare;
  const above = service - bareAlone;
  const perTopic = base === null ? null : (service - base.service) / topics;
  base ??= { service, bare };
  rows.push({
    connections,
    "more topics": topics,
    "service B/connection": Math.round(service),
    "bare B/connection": Math.round(bare),
    "service above bare with 0 topics": Math.round(above),
    "service B/topic": perTopic === null ? "" : Math.round(perTopic),
    "bare B/topic": topics === 0 ? "" : Math.round((bare - bareAlone) / topics),
  });
}
present("memory", rows);

async function bytesPerConnection(kind: "logged" | "bare", topics: number): Promise<number> {
  const server = await startMeasured(kind === "bare" ? "bare.ts" : "service.ts", {
    MEMBERS: JSON.stringify({ users: connections, conversations: topics }),
  });
  // Warm first: what the program allocates once for its first connections is not a connection's.
  const warm = startProgram(["subscribers.ts", JSON.stringify({ kind, port: server.port, connections: 200, topics })]);
  await warm.next();
  await Bun.sleep(settleMs);
  const before = await server.report("memory");
  const clients = startProgram(["subscribers.ts", JSON.stringify({ kind, port: server.port, connections, topics })]);
  await clients.next();
  await Bun.sleep(settleMs);
  const after = await server.report("memory");
  for (const { child } of [clients, warm]) {
    child.kill();
    await child.exited;
  }
  await server.stop();
  return (after.rss - before.rss) / connections;
}
