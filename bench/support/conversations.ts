/** Which conversation the next message goes to: all alike, or the first ones far more often. */
import { createRandom } from "../../test/support/checker/random.ts";

export interface ConversationsOptions {
  count: number;
  /** The n-th is drawn in proportion to 1/n: Zipf's law. */
  zipf: boolean;
}

/** The same course of draws in each run. */
export function drawConversations({ count, zipf }: ConversationsOptions): () => string {
  const random = createRandom(1);
  if (!zipf) return () => `c${random.between(1, count)}`;
  let sum = 0;
  const sums = Float64Array.from({ length: count }, (_, index) => (sum += 1 / (index + 1)));
  return () => {
    const drawn = random.next() * sum;
    let [low, high] = [0, count - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle]! < drawn) low = middle + 1;
      else high = middle;
    }
    return `c${low + 1}`;
  };
}
