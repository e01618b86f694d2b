/** Handles messages of operators about what is kept: how long the events of a conversation stay, and that a user is erased [LOG9] [BAK4]. */
import { parseDuration } from "../config/values.ts";
import { momentText } from "../ground/moments.ts";
import { ack } from "./context.ts";
import { forAdmins } from "./for-admins.ts";

export const updateConversation = forAdmins<"admin.conversations.update", "conversationStore">(
  "admin.conversations.update",
  async ({ payload, services }) => {
    const { conversation_id: conversationId, retention } = payload;
    await services.conversationStore.setRetention(conversationId, retention === null ? null : parseDuration(retention));
    return ack;
  },
);

/** Answers as soon as it is kept that the user is to go; the rest is done in the background, on whichever node. */
export const eraseUser = forAdmins<"admin.users.erase", "erasures" | "eraser" | "now">(
  "admin.users.erase",
  async ({ from, payload, services }) => {
    await services.erasures.request({ userId: payload.user_id, by: from.userId, now: services.now() });
    return { ...ack, after: () => services.eraser.wake() };
  },
);

export const erasure = forAdmins<"admin.users.erasure", "erasures">(
  "admin.users.erasure",
  async ({ payload: { user_id }, services }) => {
    const found = await services.erasures.find(user_id);
    const moment = (at: number | null | undefined) => (at == null ? null : momentText(at));
    return {
      type: "admin.users.erasure",
      payload: {
        user_id,
        state: found === null ? "none" : found.finishedAt === null ? "running" : "finished",
        messages: found?.messages ?? 0,
        percent: found?.percent ?? 0,
        requested_at: moment(found?.requestedAt),
        started_at: moment(found?.startedAt),
        finished_at: moment(found?.finishedAt),
      },
    };
  },
);
