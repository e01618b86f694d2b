/** Clients of other makers: Node's `ws` and Python's `websockets`, each a program that is told in lines what to send. */
import { join } from "node:path";
import { subprotocols, type WireFormat } from "../../../src/protocol/limits.ts";
import { protobufPeer } from "../../../src/protocol/protobuf/codec.ts";
import type { Received } from "../client.ts";
import { debianProgram, fromDebian } from "../debian.ts";
import { linesOf } from "../lines.ts";

export const makers = ["ws", "websockets"] as const;
export type Maker = (typeof makers)[number];

/** A Python that knows `websockets`: the one that is found first, or Debian's. */
export function python(): string {
  const knows = (file: string) => Bun.spawnSync([file, "-c", "import websockets"], { stderr: "ignore" }).success;
  const find = () => ["python3", "/usr/bin/python3"].find((file) => Bun.which(file) !== null && knows(file)) ?? null;
  return fromDebian(find, { package: "python3-websockets" });
}

export const node = () => debianProgram("node", { package: "nodejs" });

const commandOf = (maker: Maker): string[] =>
  maker === "ws" ? [node(), join(import.meta.dir, "node.mjs")] : [python(), join(import.meta.dir, "python.py")];

export class Peer {
  /** Extensions that were agreed on. */
  readonly extensions: Promise<string[]>;
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: Record<string, any>[] = [];
  readonly #watchers = new Set<() => void>();
  #ended = false;
  #requests = 0;

  constructor(
    maker: Maker,
    url: string,
    private readonly format: WireFormat,
  ) {
    const command = [...commandOf(maker), url, subprotocols[format]];
    this.#child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
    void this.#read();
    this.extensions = this.#find(({ extensions }) => extensions);
  }

  /** Sends a request and waits for its reply. */
  async ask(type: string, payload: object): Promise<Received> {
    const id = `r${++this.#requests}`;
    const message = { id, type, payload };
    const frame = this.format === "json" ? JSON.stringify(message) : protobufPeer.encode(message);
    const line = { data: Buffer.from(frame as string).toString("base64"), binary: this.format !== "json" };
    this.#child.stdin.write(`${JSON.stringify(line)}\n`);
    this.#child.stdin.flush();
    return this.next((it) => it.reply_to === id);
  }

  /** The first message that fits, now or later. */
  next(fits: (message: Received) => boolean): Promise<Received> {
    return this.#find(({ data, binary }) => {
      if (data === undefined || binary === (this.format === "json")) return undefined;
      const bytes = Buffer.from(data, "base64");
      const message = (this.format === "json" ? JSON.parse(bytes.toString()) : protobufPeer.decode(bytes)) as Received;
      return fits(message) ? message : undefined;
    });
  }

  async stop(): Promise<void> {
    this.#child.kill();
    await this.#child.exited;
  }

  #find<Found>(look: (line: Record<string, any>) => Found | undefined): Promise<Found> {
    return new Promise((resolve, reject) => {
      const check = () => {
        for (const line of this.#lines) {
          const found = look(line);
          if (found === undefined) continue;
          this.#watchers.delete(check);
          return resolve(found);
        }
        if (this.#ended) reject(new Error(`the client has ended: ${JSON.stringify(this.#lines.slice(-3))}`));
      };
      this.#watchers.add(check);
      check();
    });
  }

  async #read(): Promise<void> {
    for await (const line of linesOf(this.#child.stdout)) {
      this.#lines.push(JSON.parse(line) as Record<string, any>);
      for (const watcher of [...this.#watchers]) watcher();
    }
    this.#ended = true;
    for (const watcher of [...this.#watchers]) watcher();
  }
}
