/** Reads pages of the whole log for the feeds of a node: one for all that stand at the same place, and one at a time [BAK2]. */
import type { Sequencer } from "../broadcast/sequencer.ts";
import type { EventLog, FeedPage } from "../storage/ports.ts";

export interface FeedPagesOptions {
  log: Pick<EventLog, "feed">;
  /** Counts deletions: what was read before one is given to nobody who comes after it [MSG2]. */
  sequencer: Pick<Sequencer, "deletions">;
  now?: () => number;
  /** Events a page. */
  pageSize?: number;
}

/** While events are logged here, pages are read so far apart (ms), over all feeds: 500 events each time are 50,000 a second. */
const busyGapMs = 10;
/** Nothing was logged for so long, ms: there is nobody to hold up. */
const quietMs = 50;

const pageSizeDefault = 500;
/** Bounds what all other questions to the storage stand behind; they have its other connections. */
const readsAtOnce = 1;
/** A page that was read is as good as the log for so long, ms: who is at most so far behind another feed shares its pages. */
const sharedMs = 500;
const sharedMax = 4;

interface SharedPage {
  page: Promise<FeedPage>;
  /** As the sequencer had counted them when it was asked for. */
  deletions: number;
  /** When it was read; null: it is being read. */
  readAt: number | null;
}

export class FeedPages {
  /** By the place where they begin, the oldest first. */
  readonly #shared = new Map<number, SharedPage>();
  #reading = 0;
  #loggedAt = 0;
  /** When the next page may be read while events are logged. */
  #nextAt = 0;
  /** Readers that are level with the log go before those that catch up: they have little to read, and are to have it soon. */
  readonly #waiting = { level: [] as (() => void)[], behind: [] as (() => void)[] };

  constructor(private readonly options: FeedPagesOptions) {}

  /** The page that begins after the position. Rejects with `Unavailable`. @param isLevel whether the reader had all that there was */
  read(afterPosition: number, { isLevel = false } = {}): Promise<FeedPage> {
    const { now = Date.now, sequencer } = this.options;
    const { deletions } = sequencer;
    const there = this.#shared.get(afterPosition);
    const isNew = there !== undefined && (there.readAt === null || now() - there.readAt < sharedMs);
    if (isNew && there.deletions === deletions) return there.page;
    const page = this.#read(afterPosition, isLevel ? "level" : "behind");
    const shared: SharedPage = { page, deletions, readAt: null };
    this.#shared.delete(afterPosition);
    this.#shared.set(afterPosition, shared);
    const drop = () => {
      if (this.#shared.get(afterPosition) === shared) this.#shared.delete(afterPosition);
    };
    shared.page.then(({ more }) => {
      shared.readAt = now();
      // The last page grows; whoever comes for it later gets another one.
      if (!more) drop();
      for (const [position, { readAt }] of this.#shared) {
        if (this.#shared.size <= sharedMax) break;
        if (readAt !== null) this.#shared.delete(position);
      }
    }, drop);
    return shared.page;
  }

  /** Somebody writes to the log, and must not wait for those who read it. */
  noteLogged(): void {
    this.#loggedAt = performance.now();
  }

  /** Keeps nothing once no feed reads any more. */
  clear(): void {
    this.#shared.clear();
  }

  async #read(afterPosition: number, place: "level" | "behind"): Promise<FeedPage> {
    const { log, pageSize: limit = pageSizeDefault } = this.options;
    if (this.#reading >= readsAtOnce) await new Promise<void>((resolve) => this.#waiting[place].push(resolve));
    else this.#reading++;
    try {
      const waitMs = this.#givenWay();
      if (waitMs > 0) await Bun.sleep(waitMs);
      return await log.feed({ afterPosition, limit });
    } finally {
      const next = this.#waiting.level.shift() ?? this.#waiting.behind.shift();
      if (next !== undefined) next();
      else this.#reading--;
    }
  }

  /** @returns how long the next page has to wait for those who write */
  #givenWay(): number {
    const now = performance.now();
    if (now - this.#loggedAt > quietMs) return 0;
    const at = Math.max(now, this.#nextAt);
    this.#nextAt = at + busyGapMs;
    return at - now;
  }
}
