/** Does one step after the other in this very turn as long as nobody has to be waited for, and goes on later from where somebody has. */

/** An answer that is there, or a promise of it. Whoever has time awaits either. */
export type AtOnce<Answer> = Answer | Promise<Answer>;

/**
 * Written as an asynchronous function is, but that it waits for promises alone:
 * `const answer = asked instanceof Promise ? yield asked : asked` for `await asked`. Where the answer is there nothing can happen in
 * between. (As `yield` has no type of its own, it leaves `answer` the one that it has without a promise.)
 */
export type Steps<Result> = Generator<Promise<unknown>, Result, never>;

/** The same as an expression, for what is rarely come to: each `yield*` is a loop. */
export function* got<Answer>(asked: AtOnce<Answer>): Steps<Answer> {
  return asked instanceof Promise ? ((yield asked) as Answer) : asked;
}

/** Goes on with the answer once it is there: now, where it is. */
export function onceThere<Answer, Next>(asked: AtOnce<Answer>, goOn: (answer: Answer) => AtOnce<Next>): AtOnce<Next> {
  return asked instanceof Promise ? asked.then(goOn) : goOn(asked);
}

/** Takes the steps. @returns a promise only where one of them had to wait @throws what is thrown before that */
export function atOnce<Result>(steps: Steps<Result>): AtOnce<Result> {
  const first = (steps as Generator<Promise<unknown>, Result, unknown>).next();
  return first.done === true ? first.value : goOn(steps, first.value);
}

async function goOn<Result>(
  steps: Generator<Promise<unknown>, Result, unknown>,
  first: Promise<unknown>,
): Promise<Result> {
  for (let wait = first; ; ) {
    const next = await wait.then(
      (answer) => steps.next(answer),
      (error) => steps.throw(error),
    );
    if (next.done === true) return next.value;
    wait = next.value;
  }
}
