/** Is `ws-service/client/react`: what changes in the client, as values of React's that are followed while a component shows them. */
import {
  createContext,
  createElement,
  type ReactNode,
  useCallback,
  useContext,
  useMemo,
  useSyncExternalStore,
} from "react";
import type { Call, CallView } from "./calls/call.ts";
import type { Client } from "./client.ts";
import type { Conversation, ConversationView } from "./conversations/conversation.ts";
import type { ConversationListView } from "./conversations/list.ts";
import type { ConnectionState } from "./core.ts";
import type { Live } from "./ground/live.ts";
import type { Presence } from "./presence.ts";
import type { JsonObject } from "./wire.ts";

const ClientContext = createContext<Client | null>(null);

/** Gives a client to all hooks below. Its life stays yours: start it where you make it. */
export function ClientProvider<Events extends object>(props: { client: Client<Events>; children?: ReactNode }) {
  return createElement(ClientContext.Provider, { value: props.client as unknown as Client }, props.children);
}

/**
 * The client of the next provider above.
 * @throws Error where there is none
 */
export function useClient<Events extends object = Record<string, JsonObject>>(): Client<Events> {
  const client = useContext(ClientContext);
  if (client === null) throw new Error("There is no <ClientProvider client={…}> above this component.");
  return client as unknown as Client<Events>;
}

/**
 * Shows a part of a live value, and draws anew when that part is another.
 * @param select gives the same object as long as nothing of it has changed
 * @param atFirst what a server renders, and a browser that takes its page over
 */
function useLive<T, Part>(live: Live<T>, select: (current: T) => Part, atFirst: Part): Part {
  const subscribe = useCallback((onChange: () => void) => live.subscribe(onChange), [live]);
  const read = () => select(live.current);
  return useSyncExternalStore(subscribe, read, () => atFirst);
}

const whole = <T>(current: T): T => current;

const noState: ConnectionState = { status: "stopped", reason: "new" };
const noConversations: ConversationListView = { status: "loading", items: [] };
const nobody: readonly string[] = [];
const noPresence: ReadonlyMap<string, Presence> = new Map();
const noCalls: readonly Call[] = [];
const noCall: Live<null> = { current: null, subscribe: () => () => {} };

/** Whether the connection is there, and if not, why, and when it comes back. */
export function useConnectionState(): ConnectionState {
  const client = useClient();
  const subscribe = useCallback((onChange: () => void) => client.on("state", onChange), [client]);
  return useSyncExternalStore(
    subscribe,
    () => client.state,
    () => noState,
  );
}

/** The list of this user's conversations, the one in which something was said last first [REC3]. */
export function useConversations(): ConversationListView {
  const client = useClient();
  return useLive(
    useMemo(() => client.conversations(), [client]),
    whole,
    noConversations,
  );
}

/** How a conversation is now, and the conversation itself, to do something in it. */
export function useConversation<Events extends object = Record<string, JsonObject>>(
  id: string,
): [view: ConversationView, conversation: Conversation<Events>] {
  const client = useClient<Events>();
  const conversation = useMemo(() => client.conversation(id), [client, id]);
  return [
    useLive(
      conversation,
      whole,
      useMemo(() => noConversation(id), [id]),
    ),
    conversation,
  ];
}

const noConversation = (id: string): ConversationView => ({
  ...{ id, status: "loading", messages: [], unread: 0, readSeq: 0, mayWrite: true, typing: nobody, members: null },
  ...{ hasOlder: false, isLoadingOlder: false, receipts: [] },
});

/** The others who type in a conversation now, of which nothing else is drawn anew [TYP2]. */
export function useTyping(conversationId: string): readonly string[] {
  const client = useClient();
  const conversation = useMemo(() => client.conversation(conversationId), [client, conversationId]);
  return useLive(conversation, typingOf, nobody);
}

const typingOf = ({ typing }: ConversationView) => typing;

/** How somebody is; undefined until it is known [PRE5]. With a list: of each of them, by their ids. */
export function usePresence(userId: string): Presence | undefined;
export function usePresence(userIds: readonly string[]): ReadonlyMap<string, Presence>;
export function usePresence(users: string | readonly string[]) {
  const client = useClient();
  // Another list of the same users is the same.
  const key = typeof users === "string" ? users : [...new Set(users)].sort().join(" ");
  const live = useMemo(() => client.presence(key === "" ? [] : key.split(" ")), [client, key]);
  const all = useLive(live, whole, noPresence);
  return typeof users === "string" ? all.get(users) : all;
}

/** The calls that ring here or live in this tab [CALL7]. */
export function useCalls(): readonly Call[] {
  return useLive(useClient().calls, whole, noCalls);
}

/** How a call is now; null where there is none. */
export function useCall(call: Call): CallView;
export function useCall(call: Call | null | undefined): CallView | null;
export function useCall(call: Call | null | undefined): CallView | null {
  const live: Live<CallView | null> = call ?? noCall;
  return useLive(live, whole, live.current);
}
