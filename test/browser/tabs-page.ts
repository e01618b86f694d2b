/** Is a tab of an application, which notes everything that it is told. */
import type { Core, News } from "../../src/client/core.ts";
import { openCore } from "../../src/client/open-core.ts";

const query = new URLSearchParams((globalThis as any).location.search);
const errors: string[] = [];
const states: string[] = [];
const news: News[] = [];
let changed = () => {};

const { core, store } = openCore({
  url: query.get("socket")!,
  ...(query.has("user_id") && { userId: query.get("user_id")! }),
  ...(query.has("token") && { getToken: () => query.get("token")! }),
  tabs: !query.has("alone"),
  // As one has it that another tab had no time to write to.
  ...(query.has("unwritten") && { store: { read: async () => [], write: async () => {}, clear: async () => {} } }),
  onError(error) {
    errors.push(String(error));
    changed();
  },
});
core.onState(({ status }) => {
  states.push(status);
  changed();
});
core.onNews((it) => {
  news.push(it);
  changed();
});
core.outbox.onChange(() => changed());
const topic = query.get("topic");
if (topic !== null) core.follow([topic]);
core.start();

/** Waits until it is so. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise<void>((resolve) => (changed = resolve));
}

const contentsOf = (kind: "event" | "sent") =>
  news.flatMap((it) => {
    if (it.kind !== kind) return [];
    if (it.kind === "sent") return [String((it.entry.payload as { content: string }).content)];
    if (it.kind !== "event" || it.event.type !== "message.new") return [];
    return it.event.payload.sender_id === core.userId ? [] : [String(it.event.payload.content)];
  });

const tab = {
  core: core as Core,
  store,
  errors,
  states,
  news,
  /** Contents of others' messages, and of this user's own. */
  heard: () => contentsOf("event"),
  sent: () => contentsOf("sent"),
  kinds: () => news.map(({ kind }) => kind),
  live: () => until(() => core.state.status === "live"),
  stopped: () => until(() => core.state.status === "stopped"),
  untilHeard: (content: string) => until(() => contentsOf("event").includes(content)),
  untilSent: (content: string) => until(() => contentsOf("sent").includes(content)),
  untilEmpty: () => until(() => core.outbox.entries.length === 0),
  untilLead: () => until(() => core.isLead),
  untilKind: (kind: string) => until(() => news.some((it) => it.kind === kind)),
  say: (content: string) =>
    core.outbox.add("message.send", {
      conversation_id: topic!.split(":")[1]!,
      client_message_id: `${query.get("user_id")}-${content.replaceAll(" ", "-")}`,
      content,
    }),
};
Object.assign(globalThis, { tab });
