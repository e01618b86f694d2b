/** Marks of many users that share statements: which go together, and who waits for whom [REC1]. */
import { beforeEach, expect, test } from "bun:test";
import { nextTurn } from "../../src/ground/next-turn.ts";
import { SharedWrites } from "../../src/ground/shared-writes.ts";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { Marked, ReceiptMark } from "../../src/storage/ports.ts";

interface Statement {
  users: string[];
  answer: PromiseWithResolvers<Marked[]>;
}

let statements: Statement[];
let noteStatement: () => void;
beforeEach(() => {
  statements = [];
  noteStatement = () => {};
});

function queueWith({ patienceMs = 600_000, paceMs = 0 } = {}) {
  return new SharedWrites<ReceiptMark, Marked>({
    patienceMs,
    paceMs,
    keyOf: ({ conversationId, userId }) => `${conversationId} ${userId}`,
    weightOf: ({ messageIds = [] }) => messageIds.length,
    write(marks) {
      const answer = Promise.withResolvers<Marked[]>();
      statements.push({ users: marks.map(({ userId }) => userId), answer });
      noteStatement();
      return answer.promise;
    },
  });
}

async function statement(index: number): Promise<Statement> {
  while (statements.length <= index) {
    const { promise, resolve } = Promise.withResolvers<void>();
    noteStatement = resolve;
    await promise;
  }
  return statements[index]!;
}

const mark = (userId: string, more: Partial<ReceiptMark> = {}): ReceiptMark => ({
  conversationId: "c1",
  userId,
  kind: "read",
  upToSeq: 1,
  ...more,
});
const marked = ({ users }: Statement): Marked[] =>
  users.map((_, index) => ({ upToSeq: index, advanced: true, unread: 0, asOfSeq: 9 }));
const end = (it: Statement) => it.answer.resolve(marked(it));

test("[REC1] what comes while a statement is under way shares the next one, each with its own answer", async () => {
  const queue = queueWith();
  const first = queue.write(mark("ann"));
  await statement(0);
  const others = ["bob", "eve", "cle"].map((userId) => queue.write(mark(userId)));
  end(statements[0]!);
  await first;
  end(await statement(1));
  expect((await Promise.all(others)).map(({ upToSeq }) => upToSeq)).toEqual([0, 1, 2]);
  expect(statements.map(({ users }) => users)).toEqual([["ann"], ["bob", "eve", "cle"]]);
});

test("[REC1] a statement has one mark of a user in a conversation, and so many marks and ids at most", async () => {
  const queue = queueWith();
  const ids = (count: number) => ({ messageIds: Array.from({ length: count }, (_, index) => `m${index}`) });
  const marks = [
    mark("ann"),
    mark("ann"),
    mark("ann", { conversationId: "c2" }),
    mark("bob", ids(500)),
    mark("eve", ids(501)),
    ...Array.from({ length: 60 }, (_, index) => mark(`user${index}`)),
  ];
  const all = Promise.all(marks.map((it) => queue.write(it)));
  for (let index = 0; index < 2; index++) end(await statement(index));
  await all;
  const [first, second] = statements.map(({ users }) => users);
  expect(first).toHaveLength(50);
  expect(first!.slice(0, 4)).toEqual(["ann", "ann", "bob", "user0"]);
  expect(second!.slice(0, 3)).toEqual(["ann", "eve", "user47"]);
  expect(statements).toHaveLength(2);
});

test("[REC1] a statement that takes long holds nobody's marks for long", async () => {
  const queue = queueWith({ patienceMs: 1 });
  const slow = queue.write(mark("ann"));
  await statement(0);
  const quick = queue.write(mark("bob"));
  end(await statement(1));
  await quick;
  end(statements[0]!);
  await slow;
});

test("[END2] where the storage is away whoever waits is refused with the others, and whoever comes then is not", async () => {
  const queue = queueWith();
  const refused = [queue.write(mark("ann"))];
  await statement(0);
  refused.push(queue.write(mark("bob")));
  statements[0]!.answer.reject(new Unavailable("storage", "away"));
  expect((await Promise.allSettled(refused)).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  const later = queue.write(mark("eve"));
  end(await statement(1));
  await later;
});

test("[REC1] a fault of one statement is not that of the next", async () => {
  const queue = queueWith();
  const failing = queue.write(mark("ann"));
  await statement(0);
  const next = queue.write(mark("bob"));
  statements[0]!.answer.reject(new Error("a fault"));
  await expect(failing).rejects.toThrow("a fault");
  end(await statement(1));
  await next;
});

test("[REC1] what comes soon after a statement waits for company, until somebody waits behind it", async () => {
  const queue = queueWith({ paceMs: 600_000 });
  const first = queue.write(mark("ann"));
  end(await statement(0));
  await first;
  const later = [queue.write(mark("bob"))];
  await turns(3);
  later.push(queue.write(mark("eve")));
  await turns(3);
  expect(statements).toHaveLength(1);
  queue.hurry();
  end(await statement(1));
  await Promise.all(later);
  expect(statements[1]!.users).toEqual(["bob", "eve"]);
});

test("[REC1] a statement that is full waits for no company, nor does what it has left over", async () => {
  const queue = queueWith({ paceMs: 600_000 });
  const all = [queue.write(mark("ann")), queue.write(mark("ann"))];
  for (let index = 0; index < 2; index++) end(await statement(index));
  await Promise.all(all);
  const many = Array.from({ length: 50 }, (_, index) => queue.write(mark(`user${index}`)));
  end(await statement(2));
  await Promise.all(many);
  expect(statements.map(({ users }) => users.length)).toEqual([1, 1, 50]);
});

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await nextTurn();
}
