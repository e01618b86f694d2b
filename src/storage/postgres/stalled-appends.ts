/** Ends sessions of nodes that have frozen or were cut off while they appended: until then they hold up everybody's cursor. */
import type { Watermark } from "./event-log-reading.ts";
import type { Pool } from "./pool.ts";

export interface StalledAppendsOptions {
  pool: Pool;
  schema: string;
  /** A session that holds cursors back in the middle of an append, waiting for its node, is ended after so long. */
  stallMsMax: number;
  /** Told how many sessions were ended. */
  onStalled: (ended: number) => void;
}

/** So often (ms) it is looked who holds cursors back, once they have stood still for too long. */
const lookMs = 1_000;

export class StalledAppends {
  /** Since when it has been the same with appends on their way, by the clock of this process. */
  #seen = { position: -1, sinceMs: 0 };
  #lookedAtMs = 0;

  constructor(private readonly options: StalledAppendsOptions) {}

  /** For how long (ms) it has been the same while appends are on their way. */
  get heldMs(): number {
    return Math.max(0, Math.round(this.#lookedAtMs - this.#seen.sinceMs));
  }

  /** Notes where the watermark is, and looks who holds it once it has stood still for too long; on an idle log nobody does. */
  async note({ position, inFlight }: Watermark): Promise<void> {
    const { pool, schema, stallMsMax, onStalled } = this.options;
    const now = performance.now();
    this.#lookedAtMs = now;
    const isMoving = !inFlight || position !== this.#seen.position;
    if (isMoving) this.#seen = { position, sinceMs: now };
    if (isMoving || now - this.#seen.sinceMs < stallMsMax) return;
    // Again with the next repairs: it may not have stood still for so long itself yet.
    this.#seen.sinceMs = now - stallMsMax + lookMs;
    const [row] = await pool.query<{ ended: number }>(`SELECT ${schema}.end_stalled($1) AS ended`, [stallMsMax]);
    if (row!.ended > 0) onStalled(row!.ended);
  }
}
