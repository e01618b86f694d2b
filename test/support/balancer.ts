/** A small TCP load balancer, as stands before several nodes: round robin over those whose `/ready` says 200. */
import { connect, createServer, type Socket } from "node:net";

export interface Balancer {
  /** `ws://127.0.0.1:<port>/ws` */
  url: string;
  /** How many connections each node was given, by its port. */
  given: ReadonlyMap<number, number>;
  stop(): Promise<void>;
}

const probeTimeoutMs = 2_000;

/** Nodes on this machine, by their ports; they may come and go. Where none is ready, a connection is cut. */
export async function startBalancer(ports: readonly number[]): Promise<Balancer> {
  const given = new Map<number, number>(ports.map((port) => [port, 0]));
  const sockets = new Set<Socket>();
  let turn = 0;

  async function nextReady(): Promise<number | null> {
    const first = turn++;
    for (let step = 0; step < ports.length; step++) {
      const port = ports[(first + step) % ports.length]!;
      const probe = fetch(`http://127.0.0.1:${port}/ready`, {
        keepalive: false,
        signal: AbortSignal.timeout(probeTimeoutMs),
      });
      if ((await probe.catch(() => null))?.status === 200) return port;
    }
    return null;
  }

  const hold = (socket: Socket, onClose: () => void) => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      sockets.delete(socket);
      onClose();
    });
  };

  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, async (client) => {
    let node: Socket | null = null;
    hold(client, () => node?.destroy());
    const port = await nextReady();
    if (port === null || client.destroyed) return void client.destroy();
    given.set(port, given.get(port)! + 1);
    node = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    // Read on to its own end: it is reset otherwise by what it still sends, and may not read what came before.
    hold(node, () => client.end());
    client.on("data", (chunk: Buffer) => node!.destroyed || node!.write(chunk));
    client.on("end", () => node!.end());
    node.pipe(client);
    client.resume();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `ws://127.0.0.1:${port}/ws`,
    given,
    stop() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
