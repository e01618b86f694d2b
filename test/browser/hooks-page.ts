/** Shows a small chat by the hooks, in strict mode, for the test beside it. */
import { createElement as h, StrictMode, useState } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { Client, type Message } from "../../src/client/index.ts";
import {
  ClientProvider,
  useClient,
  useConnectionState,
  useConversation,
  useConversations,
  usePresence,
  useTyping,
} from "../../src/client/react.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";

// The types here are Bun's, which has no page.
declare const document: any;
declare const location: any;

const textOf = ({ content, state }: Message) => `${content} (${state})`;

function Conversation({ id }: { id: string }) {
  const [{ status, messages }, conversation] = useConversation(id);
  return h(
    "section",
    { id: "conversation", "data-status": status },
    ...messages.map((message) => h("p", { key: message.key }, textOf(message))),
    h("button", { id: "send", type: "button", onClick: () => void conversation.send("Hello!") }, "Send"),
  );
}

/** How often who types was drawn. */
const drawn = { typing: 0 };

function Typing({ id }: { id: string }) {
  drawn.typing++;
  return h("p", { id: "typing" }, useTyping(id).join());
}

function List() {
  const { status, items } = useConversations();
  return h(
    "ul",
    { id: "list", "data-status": status },
    ...items.map(({ id, unread }) => h("li", { key: id }, `${id}: ${unread}`)),
  );
}

function People() {
  const ben = usePresence("ben");
  const all = usePresence(["ben", "cleo"]);
  return h("p", { id: "people" }, `${ben?.status}, ${[...all].map(([id, { status }]) => `${id} ${status}`).join()}`);
}

export function App() {
  const client = useClient();
  const state = useConnectionState();
  const [shown, setShown] = useState(true);
  return h(
    "main",
    { "data-user": client.userId },
    h("p", { id: "state" }, state.status),
    h("button", { id: "toggle", type: "button", onClick: () => setShown(!shown) }, "Show"),
    shown ? h(Conversation, { id: "c1" }) : null,
    shown ? h(Typing, { id: "c1" }) : null,
    shown ? h(List) : null,
    shown ? h(People) : null,
  );
}

export const page = (client: Client) => h(StrictMode, null, h(ClientProvider, { client }, h(App)));

/** Lists what React had to mend, where a page that a server has rendered was taken over. */
const faults: string[] = [];

if (typeof document !== "undefined") {
  const query = new URLSearchParams(location.search);
  const client = new Client({ url: query.get("url")!, userId: "anna", store: new MemoryStore() });
  const root = document.body.appendChild(document.createElement("div"));
  const html = query.get("html");
  client.start();
  if (html === null) createRoot(root).render(page(client));
  else {
    root.innerHTML = html;
    hydrateRoot(root, page(client), { onRecoverableError: (error) => faults.push(String(error)) });
  }
  Object.assign(globalThis, { client, drawn, faults });
}
