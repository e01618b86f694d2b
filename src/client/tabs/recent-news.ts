/** Numbers what is told in all tabs of a browser, and remembers the last of it for those that come late or lead next. */
import type { News } from "../core.ts";

/** A store is written every moment, and whoever comes late reads it: more than this is not missed by anybody. */
const recentMax = 1_000;

export class RecentNews {
  /** The number of the last one; null: not known yet. */
  last: number | null = null;
  /** Some did not come, or the place among them is lost: what comes is passed over until this tab is welcome again. */
  isBehind = false;
  /** Topics that this tab hears of. */
  readonly topics = new Set<string>();
  #recent: News[] = [];
  readonly #kept: Promise<number>;

  /** @param kept read before anybody reads what is kept, which has all up to this number, and perhaps more */
  constructor(kept: Promise<number>) {
    this.#kept = kept;
  }

  /** The number of the last one that this tab has had, told or kept; null: it has lost its place. */
  async had(): Promise<number | null> {
    return this.last ?? (this.isBehind ? null : await this.#kept);
  }

  /** Is told a tab of which others have heard something that it has not. */
  get gap(): News {
    return this.topics.size > 0 ? { kind: "gap", topics: [...this.topics] } : { kind: "forgotten" };
  }

  take(news: News): void {
    this.last = (this.last ?? 0) + 1;
    this.#recent.push(news);
    if (this.#recent.length > 2 * recentMax) this.#recent = this.#recent.slice(-recentMax);
    if (news.kind === "subscribed") for (const { topic } of news.topics) this.topics.add(topic);
    else if (news.kind === "unsubscribed") for (const topic of news.topics) this.topics.delete(topic);
  }

  /** @param news up to that number. @returns those that this tab has not had: it may have asked twice */
  notHad(number: number, news: News[]): News[] {
    const before = number - news.length;
    if (this.last === null) this.beginAt(before);
    return news.slice(Math.max(0, this.last! - before));
  }

  /** @returns all after that one; null where some of it is not known here */
  after(number: number): News[] | null {
    const count = (this.last ?? 0) - number;
    if (count < 0 || count > this.#recent.length) return null;
    return count === 0 ? [] : this.#recent.slice(-count);
  }

  /** Goes on behind that one, whatever was before. */
  beginAt(number: number): void {
    this.last = number;
    this.#recent = [];
  }
}
