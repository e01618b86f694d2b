/** A TCP proxy of the tests' own for one link: it can cut it, slow it down, or freeze it half-open, and heal it again. */
import { connect, createServer, type Socket } from "node:net";

export interface LinkProxy {
  port: number;
  /** Whether a connection of its own to the target, there or gone, comes from this port. */
  comesFrom(port: number): boolean;
  /** Breaks off what is there and turns away what comes. */
  cut(): void;
  /** Everything stays open and carries nothing, not even an end; what is sent meanwhile waits. */
  freeze(): void;
  /** Makes what passes take so much longer, each way. */
  delay(delayMs: number): void;
  /** Breaks off what is there and leads what comes to another port, as an address does that has moved. */
  lead(targetPort: number): void;
  /** The link is as a link should be; what a freeze has held back passes now. */
  heal(): void;
  stop(): Promise<void>;
}

type State = { kind: "open" } | { kind: "cut" } | { kind: "frozen" } | { kind: "slow"; delayMs: number };

/** Beyond it nothing more is read, so that a slow reader is felt on the other side. */
const heldBytesMax = 64 * 1024;

export async function startProxy(firstPort: number): Promise<LinkProxy> {
  let targetPort = firstPort;
  let state: State = { kind: "open" };
  const sockets = new Set<Socket>();
  const flows = new Set<() => void>();
  const ownPorts = new Set<number>();

  /** Carries one direction of one connection. */
  function carry(from: Socket, to: Socket): void {
    const held: { chunk: Buffer; dueAt: number }[] = [];
    let heldBytes = 0;
    let ended = false;
    let blocked = false;
    let timer: Timer | null = null;

    function flow(): void {
      if (state.kind === "frozen" || blocked) return;
      for (let next = held[0]; next !== undefined && !blocked; next = held[0]) {
        const waitMs = next.dueAt - performance.now();
        if (waitMs > 0) {
          timer ??= setTimeout(() => {
            timer = null;
            flow();
          }, waitMs);
          return;
        }
        held.shift();
        heldBytes -= next.chunk.length;
        blocked = !to.write(next.chunk);
      }
      if (blocked) return;
      if (heldBytes < heldBytesMax) from.resume();
      if (ended) {
        flows.delete(flow);
        to.end();
      }
    }

    flows.add(flow);
    from.on("data", (chunk: Buffer) => {
      const delayMs = state.kind === "slow" ? state.delayMs : 0;
      // Never before what came earlier, also where the delay has become shorter.
      const dueAt = Math.max(performance.now() + delayMs, held.at(-1)?.dueAt ?? 0);
      held.push({ chunk, dueAt });
      heldBytes += chunk.length;
      if (heldBytes >= heldBytesMax) from.pause();
      flow();
    });
    to.on("drain", () => {
      blocked = false;
      flow();
    });
    to.on("close", () => {
      flows.delete(flow);
      if (timer !== null) clearTimeout(timer);
    });
    from.on("error", () => from.destroy());
    from.on("close", () => {
      sockets.delete(from);
      ended = true;
      flow();
    });
  }

  const server = createServer((near) => {
    if (state.kind === "cut") return void near.destroy();
    const far = connect({ host: "127.0.0.1", port: targetPort });
    far.on("connect", () => ownPorts.add(far.localPort!));
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.setNoDelay(true);
    }
    carry(near, far);
    carry(far, near);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  function breakOff(): void {
    for (const socket of [...sockets]) socket.destroy();
  }

  return {
    port: (server.address() as { port: number }).port,
    comesFrom: (port) => ownPorts.has(port),
    cut() {
      state = { kind: "cut" };
      breakOff();
    },
    freeze() {
      state = { kind: "frozen" };
    },
    delay(delayMs) {
      state = { kind: "slow", delayMs };
    },
    lead(port) {
      targetPort = port;
      breakOff();
    },
    heal() {
      state = { kind: "open" };
      for (const flow of [...flows]) flow();
    },
    async stop() {
      state = { kind: "cut" };
      breakOff();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
