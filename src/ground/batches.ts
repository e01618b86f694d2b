/** Joins what is asked for many users at the same time into few statements. */

interface Batch<Item, Answer> {
  items: Item[];
  answer: PromiseWithResolvers<Answer>;
}

/** Users of one statement: what others ask comes in between. */
export const itemsMax = 500;
/** Statements under way: one that hangs keeps the others waiting no longer than need be. */
const atOnce = 4;

/** Asks a few as they come; what comes while they are under way shares the next statements. */
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
