/** Says once that the storage refuses requests, and once that it takes them again, for which it is asked itself. */
import type { Unavailable } from "../ground/unavailable.ts";
import type { ClientMessageType } from "../protocol/client.ts";
import type { Storage } from "../storage/ports.ts";
import { Outage, type OutageLogger } from "../telemetry/outage.ts";

export interface StorageRefusalsOptions {
  storage: Pick<Storage, "prove">;
  logger: OutageLogger;
}

export class StorageRefusals {
  readonly #outage: Outage;
  /** The type of request that the outage began with; null while there is none. */
  #type: ClientMessageType | null = null;
  #count = 0;
  #isProving = false;

  constructor(private readonly options: StorageRefusalsOptions) {
    this.#outage = new Outage({
      level: "error",
      gone: "the storage refuses requests",
      back: "the storage takes requests again",
      logger: options.logger,
    });
  }

  /** One line for all of them: clients try again, and are told each time. */
  noteRefused(type: ClientMessageType, error: Unavailable): void {
    this.#count++;
    this.#type ??= type;
    this.#outage.began(error, { type });
  }

  /** Another type may be served all along; and one of this type may be served from what is known here, so the storage is to prove it. */
  noteServed(type: ClientMessageType): void {
    if (this.#type === type && !this.#isProving) void this.#prove();
  }

  async #prove(): Promise<void> {
    const countBefore = this.#count;
    this.#isProving = true;
    const isProven = await this.options.storage.prove().then(
      () => true,
      () => false,
    );
    this.#isProving = false;
    if (!isProven || this.#count !== countBefore) return;
    this.#type = null;
    this.#outage.ended();
  }
}
