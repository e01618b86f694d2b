/** Takes what tabs were told since that was written which is kept: as had, so that nothing of it is told again. */
import { among, keysOf } from "../connection/follows.ts";
import type { Had, News, Scope } from "../core.ts";

/** @param followed what was followed by then, so that what is had speaks for it as well */
export function catchUp({ place, covered }: Had, news: readonly News[], followed: readonly Scope[]): void {
  for (const it of news) take({ place, covered }, it);
  for (const scope of followed) for (const key of keysOf(scope).keys) covered.add(key);
}

function take({ place, covered }: Had, news: News): void {
  switch (news.kind) {
    case "sent":
      return place.noteSent(news.ack);
    case "event":
      place.take(news.event);
      return;
    case "subscribed": {
      // Of what the place speaks for all that comes after it is replayed, and nothing else is known to be had.
      const isCovered = among(covered);
      for (const { topic, seq } of news.topics)
        if (place.had(topic) === undefined && !isCovered(topic)) place.begin(topic, seq);
      return;
    }
    case "unsubscribed":
    case "gap":
      for (const topic of news.topics) place.forget(topic);
      return;
    case "forgotten":
      place.forgetAll();
  }
}
