/** Ports that nobody listens on, for servers that must be told theirs. */

/** Below those that the kernel gives to connections: a server that is away for a while finds its port free. */
const range = { least: 10_000, most: 32_000 };
const triesMax = 1_000;
/** Given out in this process already: between being free and being listened on another test asks as well. */
const given = new Set<number>();

/** Free at the moment, and different from each other. */
export async function freePorts(count: number): Promise<number[]> {
  const listeners: { port: number; stop(closeActive: boolean): void }[] = [];
  for (let tries = 0; listeners.length < count && tries < triesMax; tries++) {
    // At random, so that suites that run side by side do not meet.
    const port = range.least + Math.floor(Math.random() * (range.most - range.least));
    if (given.has(port)) continue;
    try {
      listeners.push(Bun.listen({ hostname: "127.0.0.1", port, socket: { data() {} } }));
    } catch {
      // Somebody is there.
    }
  }
  for (const listener of listeners) {
    given.add(listener.port);
    listener.stop(true);
  }
  if (listeners.length < count) throw new Error(`no ${count} free ports between ${range.least} and ${range.most}`);
  return listeners.map(({ port }) => port);
}
