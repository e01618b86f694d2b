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

test("[LIM] [REC3] a list is charged for its topics, and for its length as any page is", () => {
  expect([1, 199, 200, 10_000].map((topics) => answered("subscribe", { topics }))).toEqual([0, 0, 1, 50]);
  expect([1, 200].map((topics) => answered("subscribe", { topics }, 8 * 1024 * 1024))).toEqual([32, 33]);
  // Named topics have been paid for, their last messages have not.
  const reply = { type: "subscribed", text: "", holds: { topics: 400 } } as never;
  const of = (length: number) => answerCharge({ type: "subscribe", tokens: 3, reply, length })?.tokens ?? 0;
  expect([0, 256 * 1024 - 1, 256 * 1024].map(of)).toEqual([0, 0, 1]);
});

test("[LIM] [ADM1] whatever answers at length is charged for it, in its own class", () => {
  const reply = { type: "admin.connections", payload: {} } as never;
  const charge = (length: number) => answerCharge({ type: "admin.connections", tokens: 1, reply, length });
  expect([charge(256 * 1024 - 1), charge(600 * 1024)]).toEqual([null, { limitClass: "admin", tokens: 2 }]);
});
