/** Writes down what the client tells its application, as far as it is kept: a program that starts again knows no more [LOG3] [LOG4]. */
import type { News, Store } from "../../../src/client/core.ts";
import type { DeviceHistory, Told } from "./history.ts";

const key = "told";

export class ToldRecord {
  readonly #all: Told[] = [];
  /** Positions up to which it has asked to acknowledge, and was answered. */
  #asked = 0;
  #acknowledged = 0;

  constructor(device: DeviceHistory) {
    device.told = this.#all;
  }

  note(news: News): void {
    switch (news.kind) {
      case "event": {
        const { topic, seq } = news.event;
        if (topic !== undefined && seq !== undefined) this.#all.push({ kind: "event", topic, seq });
        return;
      }
      case "sent":
        return this.noteSent(news.ack);
      case "gap":
      case "unsubscribed":
        for (const topic of news.topics) this.#all.push({ kind: "anew", topic });
        return;
      case "forgotten":
        return this.beginAnew();
    }
  }

  /** An answer says that something of this device's own is in the log. */
  noteSent({ topic, seq, duplicate }: { topic?: string; seq?: number; duplicate?: boolean }): void {
    if (topic !== undefined && seq !== undefined && duplicate !== true) this.#all.push({ kind: "own", topic, seq });
  }

  /** Everything may come again. */
  beginAnew(): void {
    this.#all.push({ kind: "anew", topic: null });
  }

  noteAsked(position: number): void {
    this.#asked = Math.max(this.#asked, position);
  }

  noteAcknowledged(position: number): void {
    this.#acknowledged = Math.max(this.#acknowledged, position);
  }

  /** A line broke that came back from what was acknowledged, and the next one may find more acknowledged: nobody knows when an answer is lost. */
  goOn(): void {
    if (this.#asked > this.#acknowledged) this.#all.push({ kind: "passed", topic: null, position: this.#asked });
  }

  /** Is kept beside the cursor: how far it was told. */
  takeChanges(): [key: string, value: unknown][] {
    return [[key, this.#all.length]];
  }

  /** Forgets what a program that died did not keep. */
  async goBack(store: Store): Promise<void> {
    const kept = new Map(await store.read(key)).get(key);
    this.#all.length = Math.min(this.#all.length, Number(kept ?? 0));
  }
}
