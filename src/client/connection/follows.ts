/** Counts what is followed, and writes it as requests that the server has room for [SUB1]. */
import { namesPerRequest } from "../../protocol/limits.ts";
import type { Scope } from "../core.ts";

/**
 * One thing that may be followed: a whole name (`conversation:c1`), a short one (`conversation`: all of mine, later ones too), or
 * `presence of c1`, the members of a conversation, whoever they are.
 */
export type Key = string;

const presenceOf = "presence of ";
/** Characters of names in one request: 64 KiB have room for them, and for what was seen. */
const charactersMost = 40_000;
const namePattern = /^[!-~]{1,300}$/;

/** @returns `field` is the path of a name that is none; there are no keys then */
export function keysOf({ topics, filters = {} }: Scope): { keys: Key[]; field?: string } {
  const { conversation_id, user_id } = filters;
  const conversations = [conversation_id ?? [], filters.conversation_ids ?? []].flat();
  const users = [user_id ?? [], filters.user_ids ?? []].flat();
  const hasConversations = conversation_id !== undefined || filters.conversation_ids !== undefined;
  const hasUsers = user_id !== undefined || filters.user_ids !== undefined;
  const keys = new Set<Key>();
  for (const [index, name] of topics.entries()) {
    if (typeof name !== "string" || !namePattern.test(name)) return { keys: [], field: `topics.${index}` };
    if ((name === "conversation" || name === "typing") && hasConversations)
      for (const id of conversations) keys.add(`${name}:${id}`);
    else if (name === "presence" && (hasConversations || hasUsers)) {
      for (const id of users) keys.add(`presence:${id}`);
      for (const id of conversations) keys.add(presenceOf + id);
    } else keys.add(name);
  }
  const bad = [...keys].findIndex((key) => !namePattern.test(key.replace(presenceOf, "")));
  return bad < 0 ? { keys: [...keys] } : { keys: [], field: "filters" };
}

/** Requests that name all of them, each with the keys that it stands for. */
export function requestsFor(keys: Iterable<Key>): { scope: Scope; keys: Key[] }[] {
  const names: Key[] = [];
  const watched: Key[] = [];
  for (const key of keys) (key.startsWith(presenceOf) ? watched : names).push(key);
  return [
    ...portions(names).map((keys) => ({ scope: { topics: keys }, keys })),
    ...portions(watched).map((keys) => {
      const conversation_ids = keys.map((key) => key.slice(presenceOf.length));
      return { scope: { topics: ["presence"], filters: { conversation_ids } }, keys };
    }),
  ];
}

/** @returns whether a topic that the server names is of what was asked for */
export function among(keys: Iterable<Key>): (topic: string) => boolean {
  const all = new Set(keys);
  const kinds = [...all].filter((key) => !key.includes(":")).map((key) => `${kindOf(key)}:`);
  return (topic) => all.has(topic) || kinds.some((kind) => topic.startsWith(kind));
}

/** Of a key that is no whole name. */
export const kindOf = (key: Key): string => key.split(" ")[0]!;

function portions(keys: Key[]): Key[][] {
  const found: Key[][] = [];
  let portion: Key[] = [];
  let characters = charactersMost;
  for (const key of keys) {
    characters += key.length + 3;
    if (portion.length >= namesPerRequest || characters > charactersMost) {
      found.push((portion = []));
      characters = key.length + 3;
    }
    portion.push(key);
  }
  return found;
}

/** Counts who follows what: the last one who lets go of it leaves it. */
export class Follows {
  readonly #counts = new Map<Key, number>();

  get keys(): IterableIterator<Key> {
    return this.#counts.keys();
  }

  has(key: Key): boolean {
    return this.#counts.has(key);
  }

  add(keys: readonly Key[]): void {
    for (const key of keys) this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  /** @returns those that nobody follows any more */
  remove(keys: readonly Key[]): Key[] {
    return keys.filter((key) => {
      const left = (this.#counts.get(key) ?? 0) - 1;
      if (left > 0) this.#counts.set(key, left);
      else this.#counts.delete(key);
      return left === 0;
    });
  }

  /** Forgets them, however many follow them. */
  drop(keys: readonly Key[]): void {
    for (const key of keys) this.#counts.delete(key);
  }
}
