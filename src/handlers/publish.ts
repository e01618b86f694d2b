/** Handles what backends send: `publish` to a topic, users, a conversation or everyone [PUB1]. */
import type { Audience } from "../broadcast/broadcaster.ts";
import {
  canBeLogged,
  conflictOf,
  invalidPublish,
  type Publication,
  readPublication,
  toNewEvent,
  topicsOf,
} from "../ingest/publication.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { everyoneTopic } from "../protocol/topic.ts";
import type { AppendedEvent } from "../storage/ports.ts";
import type { PipelinedHandler, Reply, Request, Services } from "./context.ts";
import { refusalOf } from "./message-rights.ts";

type Needs = "broadcaster" | "publisher" | "typing" | "now" | "newId";

export const publish: PipelinedHandler<"publish", Needs> = (request) => {
  const { from, payload, services, correlationId, span } = request;
  if (!from.roles.includes("service")) throw new ProtocolError("forbidden", "Publishing needs the role service.");
  const event = readPublication(payload, services);
  const audience: Audience = { except: from, exceptDevice: payload.except_device };
  if (payload.all === true) {
    if (payload.logged) throw invalidPublish("logged", "What goes to everyone is not logged.");
    return afterEarlier(request, () => {
      services.broadcaster.toAll({ type: event.type, payload: event.body }, audience);
      const receivers = services.broadcaster.receiverCount(everyoneTopic, audience);
      return { type: "ack", payload: { published: [{ topic: "all" }], receivers } };
    });
  }
  const topics = topicsOf(payload);
  const logged = payload.logged ?? topics.every(canBeLogged);
  if (!logged && event.change !== undefined) throw invalidPublish("logged", "What changes a message is logged.");
  if (logged && !topics.every(canBeLogged)) throw invalidPublish("logged", "Events of this topic are not logged.");
  const receiversOf = (some: string[]) =>
    some.reduce((sum, topic) => sum + services.broadcaster.receiverCount(topic, audience), 0);
  if (!logged) {
    return afterEarlier(request, () => {
      services.broadcaster.toTopics(topics, { type: event.type, payload: event.body }, audience);
      noteMessage(services, event, topics);
      const published = topics.map((topic) => ({ topic }));
      return { type: "ack", payload: { published, receivers: receiversOf(topics) } };
    });
  }
  const events = toNewEvents(request, event, topics);
  const appended = services.publisher.appendEach(events, { audience, correlationId, span });
  return {
    events: events.length,
    settled: appended.then((each) => acknowledgementOf(each, { topics, event, receiversOf })),
  };
};

/** Waits for what the connection has sent before [ENV7]: what is not logged has no place in the log's queue that would keep the order. */
function afterEarlier({ from }: Request<"publish">, broadcast: () => Reply): Reply | Promise<Reply> {
  const { ahead } = from;
  return ahead === null ? broadcast() : ahead.then(broadcast);
}

/** Of a message that is logged the publisher tells [TYP2]. */
function noteMessage({ typing }: Pick<Services, "typing">, { type, body }: Publication, topics: string[]): void {
  if (type !== "message.new") return;
  const payload = JSON.stringify(body);
  for (const topic of topics) typing.noteMessage({ topic, type, payload });
}

function acknowledgementOf(
  appended: AppendedEvent[],
  {
    topics,
    event: { keyField },
    receiversOf,
  }: { topics: string[]; event: Publication; receiversOf: (topics: string[]) => number },
): Reply {
  const conflicting = topics.filter((_, index) => appended[index]!.conflict);
  if (conflicting.length > 0) {
    throw new ProtocolError("conflict", conflictOf(conflicting), { field: `payload.${keyField}` });
  }
  const refused = appended.find(({ refusal }) => refusal !== undefined);
  if (refused !== undefined) throw refusalOf(refused.refusal!, "payload.payload");
  return {
    type: "ack",
    payload: {
      published: appended.map(({ seq, position, duplicate }, index) => ({
        topic: topics[index]!,
        // There are no numbers of what was so already [MSG2].
        ...(seq === 0 ? { duplicate } : { seq, position, ...(keyField === null ? {} : { duplicate }) }),
      })),
      // A duplicate is heard by nobody anew.
      receivers: receiversOf(topics.filter((_, index) => !appended[index]!.duplicate)),
    },
  };
}

/** The event for each of the topics, in their order. */
function toNewEvents({ payload, services }: Request<"publish", Needs>, event: Publication, topics: string[]) {
  // Written once, however many users get it.
  const text = JSON.stringify(event.body);
  return topics.map((topic) => {
    const id = payload.user_ids === undefined ? event.id : services.newId();
    return toNewEvent(event, { topic, id, payload: text });
  });
}
