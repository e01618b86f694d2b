/** Joins what many users' comings and goings ask of the status store at the same time into few statements. */
import type { StatusStore } from "../storage/ports.ts";

interface Batch<Item, Answer> {
  items: Item[];
  answer: PromiseWithResolvers<Answer>;
}

/** Users of one statement: what others ask comes in between. */
const itemsMax = 500;
/** Statements under way: one that hangs keeps the others waiting no longer than need be. */
const atOnce = 4;

/** Few are asked at once as they come; what comes while they are under way shares the next statements. */
export function createBatches<Item, Answer>(
  ask: (items: Item[]) => Promise<Answer>,
): (items: Item[]) => Promise<Answer> {
  const waiting: Batch<Item, Answer>[] = [];
  let asking = 0;

  async function askAll(): Promise<void> {
    asking++;
    for (let batch = waiting.shift(); batch !== undefined; batch = waiting.shift()) {
      await ask(batch.items).then(batch.answer.resolve, batch.answer.reject);
    }
    asking--;
  }

  return (items) => {
    let batch = waiting.at(-1);
    if (batch === undefined || batch.items.length + items.length > itemsMax) {
      batch = { items: [], answer: Promise.withResolvers<Answer>() };
      waiting.push(batch);
    }
    for (const item of items) batch.items.push(item);
    if (asking < atOnce) void askAll();
    return batch.answer.promise;
  };
}

/** The same store; an answer to `get` may have more users in it than were asked for. */
export function inBatches(store: StatusStore): StatusStore {
  const setLastSeen = createBatches(async (seen: { userId: string; at: number }[]) => {
    for (const [at, some] of Map.groupBy(seen, (it) => it.at)) {
      const userIds = some.map(({ userId }) => userId);
      await store.setLastSeen(userIds, at);
    }
  });
  const get = createBatches((userIds: string[]) => store.get([...new Set(userIds)]));
  return {
    async get(userIds) {
      if (userIds.length <= itemsMax) return get(userIds);
      const found: Awaited<ReturnType<StatusStore["get"]>> = new Map();
      for (let start = 0; start < userIds.length; start += itemsMax)
        for (const [userId, stored] of await get(userIds.slice(start, start + itemsMax))) found.set(userId, stored);
      return found;
    },
    setLastSeen: (userIds, at) => setLastSeen(userIds.map((userId) => ({ userId, at }))),
    set: (userId, status) => store.set(userId, status),
    takeExpired: (now, limit) => store.takeExpired(now, limit),
  };
}
