/** Compares any sequence of messages and what is done to them with a conversation in plain arrays [MSG2] [MSG3]. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { ServerPayload } from "../../src/protocol/server.ts";
import type { AppendedEvent, EventLog, NewEvent } from "../../src/storage/ports.ts";
import { deleted, edited, message, reacted } from "./messages.ts";
import type { Open } from "./opened.ts";

const ids = ["m1", "m2", "m3"];
const users = ["ann", "bob", "eve"];

interface Said {
  sender: string;
  content: string | null;
  /** By reaction, in the order in which they came. */
  reactions: Map<string, string[]>;
}

type Step = { id: string; user: string; isOwn: boolean } & (
  | { kind: "send" | "edit"; content: string }
  | { kind: "delete" }
  | { kind: "react" | "unreact"; reaction: string }
);

/** Expects of a step that it is appended, or is so already, or says why not. */
type Outcome = "appended" | "same" | "unknown" | "deleted";

class ModelConversation {
  readonly messages = new Map<string, Said>();
  /** Keeps what the log has, by its number: the type, and what a later event of the same replaces. */
  readonly events = new Map<number, { type: string; replaced: string | null }>();
  #seq = 0;

  constructor(readonly topic: string) {}

  take(step: Step): { outcome: Outcome; seq: number } {
    const outcome = this.#apply(step);
    if (outcome !== "appended") return { outcome, seq: 0 };
    const replaced = replacedBy(step);
    for (const [seq, event] of this.events)
      if (replaced !== null && event.replaced === replaced) this.events.delete(seq);
    this.events.set(++this.#seq, { type: typeOf(step), replaced });
    return { outcome, seq: this.#seq };
  }

  #apply(step: Step): Outcome {
    const said = this.messages.get(step.id);
    if (step.kind === "send") {
      if (said !== undefined) return "same";
      this.messages.set(step.id, { sender: step.user, content: step.content, reactions: new Map() });
      return "appended";
    }
    const isReaction = step.kind === "react" || step.kind === "unreact";
    if (said === undefined || (!isReaction && step.isOwn && said.sender !== step.user)) return "unknown";
    const isDeleted = said.content === null;
    switch (step.kind) {
      case "edit":
        if (isDeleted) return "deleted";
        if (said.content === step.content) return "same";
        said.content = step.content;
        return "appended";
      case "delete":
        said.content = null;
        said.reactions.clear();
        return isDeleted ? "same" : "appended";
      case "react": {
        if (isDeleted) return "deleted";
        const had = said.reactions.get(step.reaction) ?? [];
        if (had.includes(step.user)) return "same";
        said.reactions.set(step.reaction, [...had, step.user]);
        return "appended";
      }
      case "unreact": {
        const had = said.reactions.get(step.reaction) ?? [];
        if (!had.includes(step.user)) return "same";
        if (had.length === 1) said.reactions.delete(step.reaction);
        else
          said.reactions.set(
            step.reaction,
            had.filter((user) => user !== step.user),
          );
        return "appended";
      }
    }
  }
}

const typeOf = ({ kind }: Step) =>
  ({
    send: "message.new",
    edit: "message.edited",
    delete: "message.deleted",
    react: "message.reaction",
    unreact: "message.reaction",
  })[kind];

function replacedBy(step: Step): string | null {
  switch (step.kind) {
    case "send":
      return null;
    case "react":
    case "unreact":
      return `${step.id} ${step.user} ${step.reaction}`;
    default:
      return `edit ${step.id}`;
  }
}

function eventOf(step: Step, { topic, at }: { topic: string; at: number }): NewEvent {
  return { ...changeOf(step, at), topic, ...(step.kind === "send" && { once: { keys: [`id ${topic} ${step.id}`] } }) };
}

function changeOf(step: Step, at: number): NewEvent {
  const whose = step.isOwn ? { sentBy: step.user } : {};
  switch (step.kind) {
    case "send":
      return message(step.id, step.content, { sender: step.user });
    case "edit":
      return edited(step.id, step.content, { at, ...whose });
    case "delete":
      return deleted(step.id, { at, ...whose });
    default:
      return reacted(step.id, [step.user, step.reaction, step.kind === "react"], { at });
  }
}

function outcomeOf({ duplicate, refusal }: AppendedEvent): string {
  if (refusal !== undefined) return refusal;
  return duplicate ? "same" : "appended";
}

async function expectSame(log: EventLog, model: ModelConversation): Promise<void> {
  const { events } = await log.page({ topic: model.topic, limit: 200 });
  expect(events.map(({ seq, type }) => [seq, type])).toEqual(
    [...model.events].toSorted(([a], [b]) => a - b).map(([seq, { type }]) => [seq, type]),
  );
  for (const [id, { content, reactions }] of model.messages) {
    const found = events.find((event) => event.id === id)!;
    const shown = JSON.parse(found.payload) as ServerPayload<"message.new">;
    expect(shown.content).toBe(content);
    const expected = [...reactions].map(([reaction, user_ids]) => ({ reaction, count: user_ids.length, user_ids }));
    expect(shown.reactions ?? []).toEqual(expected);
  }
}

const text = fc.constantFrom("one", "two", "three");
const reaction = fc.constantFrom("👍", ":party:", "'\"\\");
const common = { id: fc.constantFrom(...ids), user: fc.constantFrom(...users), isOwn: fc.boolean() };
const step: fc.Arbitrary<Step> = fc.oneof(
  { arbitrary: fc.record({ ...common, kind: fc.constant("send" as const), content: text }), weight: 3 },
  { arbitrary: fc.record({ ...common, kind: fc.constant("edit" as const), content: text }), weight: 3 },
  { arbitrary: fc.record({ ...common, kind: fc.constant("delete" as const) }), weight: 1 },
  {
    arbitrary: fc.record({ ...common, kind: fc.constantFrom("react" as const, "unreact" as const), reaction }),
    weight: 4,
  },
);
const batches = fc.array(fc.array(step, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 8 });

export function describeMessagesModel(open: Open): void {
  // A failure prints the seed and the path; TEST_SEED runs the same again.
  const seed = Number(Bun.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  test("[MSG2] [MSG3] whatever is done to messages, in whatever batches, they are as the model has them", async () => {
    const { storage, close } = await open();
    let conversations = 0;
    try {
      await fc.assert(
        fc.asyncProperty(batches, async (given) => {
          // One of its own for each: making a storage takes longer than all that is tried in it.
          const model = new ModelConversation(`conversation:c${++conversations}`);
          let at = 10_000;
          for (const steps of given) {
            const events = steps.map((it) => eventOf(it, { topic: model.topic, at: at++ }));
            const { appended } = await storage.log.append(events);
            for (const [index, it] of steps.entries()) {
              const { outcome, seq } = model.take(it);
              expect([it.kind, outcomeOf(appended[index]!)]).toEqual([it.kind, outcome]);
              if (outcome === "appended") expect(appended[index]!.seq).toBe(seq);
            }
            await expectSame(storage.log, model);
          }
        }),
        { seed, numRuns: 100 },
      );
    } finally {
      await close();
    }
  });
}
