/** Goes through long lists a part in each turn of the event loop. */

/** Topics of one turn. */
const partSize = 500;

/** So that what others ask comes in between. What is looked at within a part must be looked at there: anything may have happened between two of them. */
export async function inSlices<Item>(list: Item[], use: (part: Item[]) => void): Promise<void> {
  for (let start = 0; start < list.length; start += partSize) {
    if (start > 0) await new Promise((resolve) => setImmediate(resolve));
    use(list.slice(start, start + partSize));
  }
}
