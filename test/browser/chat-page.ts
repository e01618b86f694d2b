/** Is a tab of a chat, which shows what a client shows. */
import { Client } from "../../src/client/index.ts";

const query = new URLSearchParams((globalThis as any).location.search);
const errors: string[] = [];
const client = new Client({ url: query.get("socket")!, userId: query.get("user_id")! });
client.on("error", (error) => errors.push(String(error)));
const list = client.conversations();
const conversation = client.conversation(query.get("conversation")!);
const opened = query.get("open") ?? "both";
if (opened !== "conversation") list.subscribe(() => {});
if (opened !== "list") conversation.subscribe(() => {});
client.start();

/** Waits until what is shown is so. */
async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 10));
}

const texts = () =>
  conversation.current.messages.map(({ content, state }) => (state === "sent" ? content : `${content} (${state})`));

const tab = {
  client,
  conversation,
  list,
  errors,
  texts,
  shows: (count: number) =>
    until(() => {
      const { status, isLoadingOlder, messages } = conversation.current;
      return status === "live" && !isLoadingOlder && messages.filter(({ state }) => state === "sent").length === count;
    }),
  /** Opens another conversation. @returns its texts once it is live with so many */
  opens: async (id: string, count: number) => {
    const other = client.conversation(id);
    other.subscribe(() => {});
    await until(
      () => other.current.status === "live" && !other.current.isLoadingOlder && other.current.messages.length === count,
    );
    return other.current.messages.map(({ content }) => content);
  },
  kept: () => until(() => conversation.current.status === "kept"),
  lists: (unread: number) => until(() => list.current.status === "live" && list.current.items[0]?.unread === unread),
};
Object.assign(globalThis, { tab });
