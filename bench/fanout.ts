/** Fan-out: CPU of the server for each delivery, beside a bare `Bun.serve` that publishes a frame of the same size. */
import { present, startMeasured, startProgram } from "./support/measured.ts";
import { median } from "./support/statistics.ts";

const rounds = 5;
const sizes = [
  { subscribers: 1_000, messages: 100 },
  { subscribers: 10_000, messages: 20 },
];

const rows = [];
for (const { subscribers, messages } of sizes) {
  // Both at once and in turns, so that a noisy neighbour meets both.
  for (const kind of ["ephemeral", "logged"] as const) {
    const service = await contender(kind, subscribers);
    await service.run(messages);
    const bare = await contender("bare", subscribers, service.frameBytes());
    await bare.run(messages);
    const measured: { service: number; bare: number }[] = [];
    for (let round = 0; round < rounds; round++) {
      measured.push({ service: await service.run(messages), bare: await bare.run(messages) });
    }
    await Promise.all([service.stop(), bare.stop()]);
    const ratios = measured.map((it) => it.service / it.bare);
    rows.push({
      subscribers,
      events: kind,
      "frame bytes": service.frameBytes(),
      "service µs/delivery": median(measured.map((it) => it.service)).toFixed(3),
      "bare µs/delivery": median(measured.map((it) => it.bare)).toFixed(3),
      ratio: median(ratios).toFixed(3),
      "ratio, least": Math.min(...ratios).toFixed(3),
      "ratio, most": Math.max(...ratios).toFixed(3),
    });
  }
}
present("fanout", rows);

async function contender(kind: "logged" | "ephemeral" | "bare", connections: number, frameBytes = 0) {
  const server = await startMeasured(kind === "bare" ? "bare.ts" : "service.ts", { FRAME_BYTES: String(frameBytes) });
  const clients = startProgram(["subscribers.ts", JSON.stringify({ kind, port: server.port, connections, topics: 0 })]);
  await clients.next();
  let bytes = 0;
  return {
    frameBytes: () => bytes,
    /** @returns microseconds of CPU for one delivery */
    async run(messages: number): Promise<number> {
      const before = await server.report("cpu");
      clients.child.stdin.write(`${messages}\n`);
      clients.child.stdin.flush();
      const { delivered, frameBytes } = (await clients.next()) as { delivered: number; frameBytes: number };
      const after = await server.report("cpu");
      bytes = frameBytes;
      return ((after.cpuSeconds - before.cpuSeconds) * 1e6) / delivered;
    },
    async stop() {
      clients.child.kill();
      await Promise.all([clients.child.exited, server.stop()]);
    },
  };
}
