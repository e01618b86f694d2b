/** Tells a connection of its topics once the log has gone back [LOG4]. */
import type { Sequencer } from "../broadcast/sequencer.ts";
import type { SubscribedTopic } from "../protocol/server.ts";
import type { Subscriber } from "./subscriber.ts";
import { isLogged, parseTopic } from "./topic.ts";

export interface LossTold {
  sequencer: Pick<Sequencer, "headOf" | "safePosition" | "epochs">;
  tell: (subscriber: Subscriber, type: "subscribed", payload: object) => void;
}

/** Topics of one message: a connection may be on very many. */
const topicsAtOnce = 1_000;

/** Of each logged topic it is said where its head is now, and that what was heard of it before may be lost. */
export function tellLoss(subscriber: Subscriber, { sequencer, tell }: LossTold): void {
  const logged = subscriber.topics().filter((name) => isLogged(parseTopic(name)!));
  const cursor = sequencer.epochs.cursorOf(sequencer.safePosition);
  for (let start = 0; start < logged.length && !subscriber.isClosed; start += topicsAtOnce) {
    const topics = logged.slice(start, start + topicsAtOnce).map((name): SubscribedTopic => {
      return { topic: name, seq: sequencer.headOf(name) ?? 0, recovered: false };
    });
    tell(subscriber, "subscribed", { topics, rejected: [], rejected_count: 0, cursor });
  }
}
