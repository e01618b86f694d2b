/** Waits for what nobody is told of: asks again and again, and leaves the machine to others in between. */

const askAgainMs = 20;

/** Asks again and again until it is so, for what tells nobody by itself. */
export async function until(isSo: () => Promise<boolean>, patienceMs = 20_000): Promise<void> {
  const end = performance.now() + patienceMs;
  while (!(await isSo())) {
    if (performance.now() > end) throw new Error(`not so within ${patienceMs} ms: ${isSo}`);
    await Bun.sleep(askAgainMs);
  }
}

/** Asks again and again until the answer is as it should be: for what the service does by itself and tells nobody. */
export async function eventually<Answer>(
  ask: () => Promise<Answer>,
  isThere: (answer: Answer) => boolean,
): Promise<Answer> {
  for (;;) {
    const answer = await ask();
    if (isThere(answer)) return answer;
    await Bun.sleep(askAgainMs);
  }
}
