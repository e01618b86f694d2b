/** Shows that candidates go soon, several at once, in order, and no faster than the server takes them [CALL3] [LIM]. */
import { expect, test } from "bun:test";
import { Candidates } from "../../src/client/calls/candidates.ts";
import { ServerError } from "../../src/client/errors.ts";
import { createHandClock } from "../support/hand-clock.ts";

type Sent = Parameters<ConstructorParameters<typeof Candidates>[0]["send"]>[0];

const candidate = (n: number) => ({ toJSON: () => ({ candidate: `candidate:${n}` }) }) as never;
const numbersOf = (sent: Sent[]) =>
  sent.flatMap((it) => (it ?? []).map((one) => Number(String((one as { candidate: string }).candidate).slice(10))));

function begin(refuse: () => ServerError | null = () => null) {
  const clock = createHandClock({ settled: () => new Promise((resolve) => setImmediate(resolve)) });
  const sent: Sent[] = [];
  const candidates = new Candidates({
    clock,
    async send(some) {
      const error = refuse();
      if (error !== null) throw error;
      sent.push(some);
    },
  });
  return { clock, sent, candidates };
}

test("[CALL3] those that are found at once go at once, 32 in a message, and the end after the last", async () => {
  const { clock, sent, candidates } = begin();
  for (let n = 0; n < 70; n++) candidates.add(candidate(n));
  candidates.add(null);
  await clock.pass(50);
  expect(sent).toHaveLength(1);
  await clock.pass(5_000);
  expect(sent.map((it) => it?.length ?? null)).toEqual([32, 32, 6, null]);
  expect(numbersOf(sent)).toEqual([...Array(70).keys()]);
});

test("[LIM] one after the other for a minute: all are sent, in fewer messages than the server takes", async () => {
  const { clock, sent, candidates } = begin();
  for (let n = 0; n < 1_200; n++) {
    candidates.add(candidate(n));
    await clock.pass(50);
  }
  expect(sent.length).toBeLessThan(300);
  await clock.pass(1_000);
  expect(numbersOf(sent)).toEqual([...Array(1_200).keys()]);
});

test("[LIM] those that are refused for a while are sent then, and those of a connection that is no more are not", async () => {
  let refusals = 1;
  const limited = { code: "rate_limited", message: "Too fast.", retryable: true, retry_after_ms: 3_000 } as const;
  const { clock, sent, candidates } = begin(() => (refusals-- > 0 ? new ServerError(limited) : null));
  candidates.add(candidate(0));
  candidates.add(candidate(1));
  await clock.pass(2_900);
  expect(sent).toEqual([]);
  await clock.pass(1_000);
  expect(numbersOf(sent)).toEqual([0, 1]);
  candidates.add(candidate(2));
  candidates.clear();
  await clock.pass(10_000);
  expect(numbersOf(sent)).toEqual([0, 1]);
  expect(clock.waiting()).toBe(0);
});
