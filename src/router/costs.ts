/** Tells what a request costs: one token of its class, and more where it asks for more [LIM]. */
import type { Reply } from "../handlers/context.ts";
import type { ClientMessageType, ClientPayload, Filters } from "../protocol/client.ts";
import type { Charge } from "./rate-limiter.ts";
import { limitClassOf } from "./requests.ts";

/** Messages that may be as large as any. */
export const ofAnySize: ReadonlySet<string> = new Set(["message.send", "message.edit", "publish"]);
/** Messages of which it is limited as well how much is sent. */
export const countedInBytes: ReadonlySet<string> = new Set([...ofAnySize, "event.send"]);

/** Topics that are looked up for one token: the 10,000 of a connection, in ten requests, leave room for much else. */
const topicsPerToken = 200;
/** Conversations whose members are looked up, each by a question of its own, for one token. */
const conversationsPerToken = 10;
const presenceUsersPerToken = 50;
const historyEventsPerToken = 50;
const membersPerToken = 100;
const receiptIdsPerToken = 100;
const publishUsersPerToken = 10;
/** Characters of an answer for one token more. */
const answerPerToken = 256 * 1024;

type Payloads = { [Type in ClientMessageType]: ClientPayload<Type> };

/** Tokens that a valid request takes; with nothing out of the ordinary it is one. */
export function tokensFor<Type extends ClientMessageType>(type: Type, payload: ClientPayload<Type>): number {
  const payloads = { [type]: payload } as Partial<Payloads>;
  switch (type) {
    case "subscribe":
    case "unsubscribe":
      return scopeTokens((payloads.subscribe ?? payloads.unsubscribe)!);
    case "history":
      return Math.ceil(payloads.history!.limit / historyEventsPerToken);
    case "members":
      return Math.ceil(payloads.members!.limit / membersPerToken);
    case "presence.query":
      return Math.ceil(payloads["presence.query"]!.user_ids.length / presenceUsersPerToken);
    case "mark.delivered":
    case "mark.read": {
      const { message_ids } = (payloads["mark.delivered"] ?? payloads["mark.read"])!;
      return Math.max(1, Math.ceil((message_ids?.length ?? 0) / receiptIdsPerToken));
    }
    case "publish":
      return Math.max(1, Math.ceil((payloads.publish!.user_ids?.length ?? 0) / publishUsersPerToken));
    default:
      return 1;
  }
}

/** One, and more for many topics: whole names are one each, short ones as many as the filters name. */
function scopeTokens({ topics, filters = {} }: { topics: string[]; filters?: Filters | undefined }): number {
  const conversations = countOf(filters.conversation_id, filters.conversation_ids);
  const users = countOf(filters.user_id, filters.user_ids);
  let count = 0;
  let lookUps = 0;
  for (const name of new Set(topics)) {
    if (name === "conversation" || name === "typing") count += Math.max(1, conversations);
    else if (name === "presence") {
      count += Math.max(1, users);
      lookUps = conversations;
    } else count++;
  }
  return 1 + Math.floor(count / topicsPerToken) + Math.floor(lookUps / conversationsPerToken);
}

const countOf = (one: string | undefined, many: string[] | undefined) =>
  (one === undefined ? 0 : 1) + (many?.length ?? 0);

/** A request as it was answered, and what it has taken. */
export interface AnswerToRequest {
  type: ClientMessageType;
  tokens: number;
  reply: Reply;
  /** Characters of the answer. */
  length: number;
}

/** Charges an answer afterwards: only then it is known how many topics were meant, or how much of the log was in it. */
export function answerCharge({ type, tokens, reply, length }: AnswerToRequest): Charge | null {
  const topics = topicsIn(reply);
  // Of a `subscribe` what its topics would have taken by their names; of what was looked for each look beyond the first.
  const looks = topics === null ? looksFor(reply) - 1 : Math.max(0, 1 + Math.floor(topics / topicsPerToken) - tokens);
  const more = looks + Math.floor((length + replayedFor(reply)) / answerPerToken);
  return more > 0 ? { limitClass: limitClassOf(type), tokens: more } : null;
}

function topicsIn(reply: Reply): number | null {
  if ("text" in reply) return reply.holds !== undefined && "topics" in reply.holds ? reply.holds.topics : null;
  return reply.type === "subscribed" || reply.type === "unsubscribed" ? reply.payload.topics.length : null;
}

const looksFor = (reply: Reply) =>
  "text" in reply && reply.holds !== undefined && "looks" in reply.holds ? reply.holds.looks : 1;

const replayedFor = (reply: Reply) =>
  "text" in reply && reply.holds !== undefined && "replayed" in reply.holds ? reply.holds.replayed : 0;
