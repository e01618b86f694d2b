/** Keeps the record of who is subscribed to what: the topic trees of all listeners of this process, as one. */
import type { Server as BunServer } from "bun";
import type { EncodedFrame, NativeTopics } from "../broadcast/ports.ts";
import type { Compression } from "./compression.ts";
import type { Connection } from "./connection.ts";
import type { FirstWords } from "./first-words.ts";

export class Listeners implements NativeTopics {
  /** The first accepts; others were replaced by a new certificate and live on until their last socket has gone. */
  #all: BunServer<Connection>[] = [];

  /** Others listen elsewhere, such as inside: their sockets hear the same. */
  readonly #beside = new Set<BunServer<Connection>>();

  constructor(
    private readonly compression: Pick<Compression, "pays">,
    private readonly firstWords: Pick<FirstWords, "speak">,
  ) {}

  /** The port that is listened on. */
  get port(): number {
    return this.#all[0]!.port!;
  }

  /** Lets a listener accept what comes from now on; the one before it ends with its last socket. */
  add(listener: BunServer<Connection>): void {
    const [former] = this.#all;
    this.#all.unshift(listener);
    void former?.stop().then(() => {
      this.#all = this.#all.filter((it) => it !== former);
    });
  }

  addBeside(listener: BunServer<Connection>): void {
    this.#beside.add(listener);
  }

  removeBeside(listener: BunServer<Connection>): void {
    this.#beside.delete(listener);
  }

  publish(topic: string, frame: EncodedFrame): void {
    this.firstWords.speak();
    const compress = this.compression.pays(frame, () => this.subscriberCount(topic));
    for (const listener of this.#all) listener.publish(topic, frame as string | Uint8Array<ArrayBuffer>, compress);
    for (const listener of this.#beside)
      if (listener.subscriberCount(topic) > 0)
        listener.publish(topic, frame as string | Uint8Array<ArrayBuffer>, compress);
  }

  subscriberCount(topic: string): number {
    let count = 0;
    for (const listener of this.#all) count += listener.subscriberCount(topic);
    for (const listener of this.#beside) count += listener.subscriberCount(topic);
    return count;
  }

  /** Ends every socket. */
  async stop(): Promise<void> {
    await Promise.all(this.#all.map((listener) => listener.stop(true)));
  }
}
