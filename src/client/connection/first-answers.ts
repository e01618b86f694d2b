/** Answers those who have begun to follow something, once the server has answered for all of it [SUB1]. */
import type { Subscribed } from "../core.ts";
import { among, type Key } from "./follows.ts";

interface Wanted {
  keys: Key[];
  left: Set<Key>;
  found: Subscribed;
  resolve(found: Subscribed): void;
  reject(error: Error): void;
}

export class FirstAnswers {
  #wanted: Wanted[] = [];

  /** @returns resolves with what the server has said of these keys, in however many answers */
  of(keys: Key[]): Promise<Subscribed> {
    return new Promise((resolve, reject) => {
      const found: Subscribed = { topics: [], rejected: [], cursor: "" };
      if (keys.length === 0) return resolve(found);
      this.#wanted.push({ keys, left: new Set(keys), found, resolve, reject });
    });
  }

  /** Takes an answer to a subscribe of these keys. */
  note(keys: Key[], { topics, rejected, cursor }: Subscribed): void {
    const answered = new Set(keys);
    for (const wanted of this.#wanted) {
      const mine = wanted.keys.filter((key) => answered.has(key));
      if (mine.length === 0) continue;
      const isOfMine = among(mine);
      const isMine = ({ topic }: { topic: string }) => isOfMine(topic);
      for (const key of mine) wanted.left.delete(key);
      wanted.found.topics.push(...topics.filter(isMine));
      wanted.found.rejected.push(...rejected.filter(isMine));
      wanted.found.cursor = cursor;
      if (wanted.left.size === 0) wanted.resolve(wanted.found);
    }
    this.#wanted = this.#wanted.filter(({ left }) => left.size > 0);
  }

  /** The server will not have these, however often it is asked. */
  refuse(keys: Key[], error: Error): void {
    const refused = new Set(keys);
    for (const wanted of this.#wanted) if (wanted.keys.some((key) => refused.has(key))) wanted.reject(error);
    this.note(keys, { topics: [], rejected: [], cursor: "" });
  }

  /** Forgets those who have let go of all that they wanted. */
  keep(isFollowed: (key: Key) => boolean): void {
    this.#wanted = this.#wanted.filter(({ keys }) => keys.some(isFollowed));
  }
}
