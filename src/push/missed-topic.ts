/** Writes the topic `missed`: each event, and each call, once over all nodes, whoever says it again [BAK3]. */
import { idempotencyKey } from "../broadcast/idempotency-key.ts";
import type { Publisher } from "../broadcast/publisher.ts";
import { limits } from "../protocol/limits.ts";
import type { ServerPayload } from "../protocol/server.ts";
import { missedTopic, parseTopic } from "../protocol/topic.ts";
import type { AppendedEvent, EventLog, NewEvent } from "../storage/ports.ts";
import type { Candidate } from "./candidate.ts";

export interface MissedTopicOptions {
  publisher: Pick<Publisher, "append" | "appendAll">;
  log: Pick<EventLog, "range">;
  /** Milliseconds since 1970. */
  now: () => number;
  newId: () => string;
}

/** An event with those who have missed it. */
export interface Missed extends Pick<Candidate, "event" | "senderId"> {
  /** Sorted, so that what is left of them can be told whoever goes on with it. */
  userIds: string[];
  /** How many could have missed it: of fewer than a page nothing can be left. */
  audience: number;
}

/** Users of one event. */
const pageUsers = limits.publishUsers;
/** Events that are appended together, and their users. */
const [atOnce, usersAtOnce] = [500, 50_000];

export class MissedTopic {
  constructor(private readonly options: MissedTopicOptions) {}

  /** Tells of events that were missed; resolves once all of it is durable. @throws Unavailable: say it again */
  async tell(missed: Missed[]): Promise<void> {
    const { publisher } = this.options;
    for (const part of partsOf(missed)) {
      const appended = await publisher.appendAll(part.map((one) => this.#page(one, 0, one.userIds)));
      for (const [index, one] of part.entries())
        if (one.audience > pageUsers) await this.#tellRest(one, appended[index]!);
    }
  }

  /** Tells of a call to somebody who has no device, at once. @throws Unavailable */
  async tellUnreached(call: ServerPayload<"call.unreached">): Promise<void> {
    const { publisher, now, newId } = this.options;
    await publisher.append({
      id: newId(),
      topic: missedTopic.name,
      type: "call.unreached",
      payload: call,
      createdAt: now(),
      // Callers choose the ids of calls: one that was used before is another call between other people.
      once: { keys: [idempotencyKey(["unreached", call.from_user_id, call.to_user_id], call.call_id)] },
    });
  }

  /**
   * Each page begins after the last user of the page before, as that stands in the log: somebody else may have written it, who
   * found others to have missed the event.
   */
  async #tellRest(missed: Missed, first: AppendedEvent): Promise<void> {
    const { publisher } = this.options;
    let own = missed.userIds.slice(0, pageUsers);
    let appended = first;
    for (let page = 1; ; page++) {
      const told = appended.duplicate ? await this.#usersOf(appended) : own;
      if (told.length < pageUsers) return;
      const rest = missed.userIds.filter((userId) => userId > told.at(-1)!);
      if (rest.length === 0) return;
      own = rest.slice(0, pageUsers);
      [appended] = (await publisher.appendAll([this.#page(missed, page, own)])) as [AppendedEvent];
    }
  }

  async #usersOf({ seq }: AppendedEvent): Promise<string[]> {
    const { events } = await this.options.log.range({
      topic: missedTopic.name,
      afterSeq: seq - 1,
      throughSeq: seq,
      limit: 1,
    });
    return events.flatMap(({ payload }) => (JSON.parse(payload) as ServerPayload<"delivery.missed">).user_ids);
  }

  #page({ event, senderId }: Missed, page: number, userIds: string[]): NewEvent {
    const { id, topic, seq, type } = event;
    const { kind, key } = parseTopic(topic)!;
    const payload: ServerPayload<"delivery.missed"> = {
      event_id: id,
      topic,
      seq,
      type,
      user_ids: userIds.slice(0, pageUsers),
      ...(senderId === null ? {} : { sender_id: senderId }),
    };
    return {
      id: this.options.newId(),
      topic: missedTopic.name,
      type: "delivery.missed",
      payload: JSON.stringify(payload),
      createdAt: this.options.now(),
      once: { keys: [idempotencyKey(["told", kind, key, id], page)] },
    };
  }
}

/** Each ends with an event of which more is left to tell: that comes before what is missed later. */
function partsOf(missed: Missed[]): Missed[][] {
  const parts: Missed[][] = [];
  let part: Missed[] = [];
  let users = 0;
  for (const one of missed) {
    part.push(one);
    users += one.userIds.length;
    if (part.length < atOnce && users < usersAtOnce && one.userIds.length < pageUsers) continue;
    parts.push(part);
    part = [];
    users = 0;
  }
  return part.length > 0 ? [...parts, part] : parts;
}
