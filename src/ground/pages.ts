/** Cuts long lists into pages, so that none is worked on or asked about at once. */
import type { AtOnce } from "./at-once.ts";
import { nextTurn } from "./next-turn.ts";

/** The list in its order, as many items a page; none where it is empty. */
export function pages<Item>(list: Item[], size: number): Item[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, at) => list.slice(at * size, (at + 1) * size));
}

/** Users and devices of one statement: what others ask comes in between. */
export const itemsMax = 500;

/** Items of one turn of the event loop. */
const perTurn = 500;

/**
 * Goes through a list a page in each turn of the event loop, so that what others ask comes in between. What is looked at within
 * a page must be looked at there: anything may have happened between two of them.
 */
export function pagePerTurn<Item>(list: Item[], use: (page: Item[]) => void): AtOnce<void> {
  return list.length > perTurn ? eachPage(list, use) : use(list);
}

async function eachPage<Item>(list: Item[], use: (page: Item[]) => void): Promise<void> {
  for (const [at, page] of pages(list, perTurn).entries()) {
    if (at > 0) await nextTurn();
    use(page);
  }
}
