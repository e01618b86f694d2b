/** Proves what answers cost beyond what their requests have: much text, many topics, many looks through the log [LIM]. */
import { expect, test } from "bun:test";
import { answerCharge } from "../../src/router/costs.ts";

const answered = (type: "history" | "subscribe", holds: object, length = 100) => {
  const reply = { type: type === "history" ? "history" : "subscribed", text: "", holds } as never;
  return answerCharge({ type, tokens: 1, reply, length })?.tokens ?? 0;
};

test("[LIM] [LOG8] a page of rare types is charged for each look at the log after the first, and for its length", () => {
  expect([1, 2, 26].map((looks) => answered("history", { looks }))).toEqual([0, 1, 25]);
  expect(answered("history", { looks: 3 }, 256 * 1024)).toBe(3);
});

test("[LIM] [REC3] a list is charged for its topics, and not for the last messages that it has", () => {
  expect([1, 199, 200, 10_000].map((topics) => answered("subscribe", { topics }, 8_000_000))).toEqual([0, 0, 1, 50]);
});
