/** Watches connections of any node for the operators who are connected here, until they leave or the connection does [ADM1]. */
import type { Bus } from "../cluster/ports.ts";
import type { Survey } from "../cluster/survey.ts";
import type { AdminQuestions } from "../handlers/admin-questions.ts";
import type { Watching as WatchingPort } from "../handlers/context.ts";
import { watchTopic } from "../protocol/admin.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import type { ServerPayload } from "../protocol/server.ts";
import type { Subscriber } from "../subscription/subscriber.ts";
import type { Tell } from "../subscription/tell.ts";

export interface WatchingOptions {
  survey: Survey<AdminQuestions>;
  bus: Pick<Bus, "watch">;
  tell: Tell;
  newId: () => string;
}

interface Watched {
  from: Subscriber;
  nodeId: string;
  about: AdminQuestions["watch"]["about"];
  /** How often in a row its node has not answered. */
  missed: number;
  timer: Timer;
}

type End = NonNullable<ServerPayload<"admin.watched">["ended"]>;

/** How often the node of the connection is asked to go on, ms: so soon is an end told of. */
const renewEveryMs = 2_000;
/** Its node is lost where it has not answered so often. */
const missedMax = 3;

export class Watching implements WatchingPort {
  readonly #watched = new Map<string, Watched>();

  constructor(private readonly options: WatchingOptions) {}

  async begin(from: Subscriber, { connectionId, payloads }: { connectionId: string; payloads: boolean }) {
    const { bus, newId, survey } = this.options;
    if ([...this.#watched.values()].filter((it) => it.from === from).length >= limits.watches)
      throw new ProtocolError("limit_exceeded", `One connection watches at most ${limits.watches} others.`);
    const watchId = newId();
    const about = { watchId, connectionId, payloads, by: from.userId };
    // Before anybody shows anything, so that nothing is missed.
    await bus.watch(watchTopic(watchId));
    from.subscribe(watchTopic(watchId));
    const surveyed = await survey.ask("watch", about).catch((error) => {
      from.unsubscribe(watchTopic(watchId));
      throw error;
    });
    const found = surveyed.answers.find(({ said }) => said !== null);
    if (found === undefined) {
      from.unsubscribe(watchTopic(watchId));
      return { ...surveyed, found: null };
    }
    const timer = setInterval(() => void this.#renew(watchId).catch(() => {}), renewEveryMs).unref();
    this.#watched.set(watchId, { from, nodeId: found.nodeId, about, missed: 0, timer });
    return { ...surveyed, found: { watchId, connection: found.said!.connection } };
  }

  end(from: Subscriber, watchId: string): boolean {
    const watched = this.#watched.get(watchId);
    if (watched?.from !== from) return false;
    this.#end(watchId, watched);
    return true;
  }

  async #renew(watchId: string): Promise<void> {
    const watched = this.#watched.get(watchId);
    if (watched === undefined) return;
    const { from, nodeId, about } = watched;
    if (from.isClosed) return this.#end(watchId, watched);
    if (!from.roles.includes("admin")) return this.#end(watchId, watched, { ended: "forbidden" });
    const { answers } = await this.options.survey.ask("watch", about, { only: nodeId });
    if (this.#watched.get(watchId) !== watched) return;
    const [answer] = answers;
    if (answer === undefined) {
      if (++watched.missed >= missedMax) this.#end(watchId, watched, { ended: "lost" });
      return;
    }
    watched.missed = 0;
    if (answer.said === null) this.#end(watchId, watched, { ended: "lost" });
    else if (answer.said.closed !== null) this.#end(watchId, watched, { ended: "closed", code: answer.said.closed });
  }

  #end(watchId: string, { from, nodeId, timer }: Watched, told?: { ended: End; code?: number }): void {
    this.#watched.delete(watchId);
    clearInterval(timer);
    from.unsubscribe(watchTopic(watchId));
    if (told !== undefined)
      this.options.tell(from, "admin.watched", { watch_id: watchId, messages: [], left_out: 0, ...told });
    // Where it is not heard the watch ends by itself.
    void this.options.survey.ask("unwatch", { watchId }, { only: nodeId }).catch(() => {});
  }
}
