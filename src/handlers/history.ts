/** Handles `history`: pages of a topic for scrolling through, of all its events or of some types [LOG8]. */
import { ProtocolError } from "../protocol/errors.ts";
import type { WireFormat } from "../protocol/limits.ts";
import { parseTopic } from "../protocol/topic.ts";
import type { EventPage, LoggedEvent } from "../storage/ports.ts";
import { shownEvent } from "../subscription/shown-event.ts";
import type { Handler, Request } from "./context.ts";

/** Characters of payload that one page of history has, unless its only event has more; what must be converted has fewer. */
const pageCharacters: Record<WireFormat, number> = { json: 1024 * 1024, protobuf: 256 * 1024 };

/** Looks through the log for one page of some types, after which what was found must do. */
const looksMax = 25;

type Needs = "subscriptions" | "log" | "questions";
type HistoryRequest = Pick<Request<"history", Needs>, "from" | "payload" | "services">;

/** A page, and how many looks through the log it took. */
interface Looked extends EventPage {
  looks: number;
}

export const history: Handler<"history", Needs> = async (request) => {
  const { from, payload, services } = request;
  const { subscriptions, questions } = services;
  const topic = parseTopic(payload.topic);
  const mayRead = async () => topic !== null && (await subscriptions.mayRead(from, topic));
  if (topic === null || !(await questions.ask(from, mayRead)))
    throw new ProtocolError("forbidden", "You may not read this topic.", { field: "payload.topic" });
  const charactersMax = pageCharacters[from.format];
  const page = await (payload.types === undefined
    ? pageOfAll(request, charactersMax)
    : pageOfTypes(request, charactersMax));
  const fitting = payload.after_seq === undefined ? newestOf : oldestOf;
  const events = fitting(page.events, { limit: payload.limit, charactersMax });
  const hasMore = page.more || events.length < page.events.length;
  const shown = events.map(shownEvent).join(",");
  return {
    type: "history",
    text: `{"topic":${JSON.stringify(topic.name)},"events":[${shown}],"has_more":${hasMore}}`,
    holds: { looks: page.looks },
  };
};

async function pageOfAll({ from, payload, services }: HistoryRequest, charactersMax: number): Promise<Looked> {
  const { topic, before_seq: beforeSeq, after_seq: afterSeq, limit } = payload;
  // No text has fewer bytes than characters.
  const query = { topic, limit, bytesMax: charactersMax, ...placeOf({ beforeSeq, afterSeq }) };
  const page = await services.questions.ask(from, () => services.log.page(query));
  return { ...page, looks: 1 };
}

/**
 * Looks on until the page is full and it is known whether there are more, or until it has something and enough was looked
 * through: a page is empty only where there are none. Others ask in between, however rare the types are.
 */
async function pageOfTypes({ from, payload, services }: HistoryRequest, charactersMax: number): Promise<Looked> {
  const { topic, types = [], limit } = payload;
  let { before_seq: beforeSeq, after_seq: afterSeq } = payload;
  const isBackwards = afterSeq === undefined;
  let events: LoggedEvent[] = [];
  for (let looks = 1; ; looks++) {
    const wanted = limit + 1 - events.length;
    const query = { topic, types, limit: wanted, bytesMax: charactersMax, ...placeOf({ beforeSeq, afterSeq }) };
    const page = await services.questions.ask(from, () => services.log.pageOf(query));
    events = isBackwards ? [...page.events, ...events] : [...events, ...page.events];
    const isFull = events.length > limit || charactersIn(events) > charactersMax;
    if (!page.more || isFull || (looks >= looksMax && events.length > 0)) return { events, more: page.more, looks };
    if (isBackwards) beforeSeq = page.through;
    else afterSeq = page.through;
  }
}

/** The fields that are given. */
const placeOf = ({ beforeSeq, afterSeq }: { beforeSeq: number | undefined; afterSeq: number | undefined }) => ({
  ...(beforeSeq === undefined ? {} : { beforeSeq }),
  ...(afterSeq === undefined ? {} : { afterSeq }),
});

const charactersIn = (events: LoggedEvent[]) => events.reduce((sum, { payload }) => sum + payload.length, 0);

interface PageLimits {
  limit: number;
  charactersMax: number;
}

/** As many events from the start as one answer should carry, at least one: a slow client must be able to take it [CON7]. */
function oldestOf(events: LoggedEvent[], { limit, charactersMax }: PageLimits): LoggedEvent[] {
  let characters = 0;
  const isBeyond = ({ payload }: LoggedEvent, index: number) =>
    index >= limit || ((characters += payload.length) > charactersMax && index > 0);
  const end = events.findIndex(isBeyond);
  return end === -1 ? events : events.slice(0, end);
}

const newestOf = (events: LoggedEvent[], limits: PageLimits) => oldestOf(events.toReversed(), limits).toReversed();
