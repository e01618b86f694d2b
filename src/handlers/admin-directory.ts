/** Handles what operators change of users and members, for those who have no tables of their own [PUB3] [MSG5]. */
import { momentText } from "../ground/moments.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { BeingErased } from "../storage/directory-store.ts";
import { ack } from "./context.ts";
import { forAdmins } from "./for-admins.ts";

/** Tells what keeps a user out. */
export const user = forAdmins<"admin.user", "directoryStore">("admin.user", async ({ payload, services }) => {
  const { user_id } = payload;
  const { state, blockedUntil } = await services.directoryStore.standingOf(user_id);
  const blocked_until = blockedUntil === null ? null : momentText(blockedUntil);
  return { type: "admin.user", payload: { user_id, state, blocked_until } };
});

/** Lists a page of the members, whoever asks. */
export const members = forAdmins<"admin.members", "directory">("admin.members", async ({ payload, services }) => {
  const { conversation_id: conversationId, after, limit } = payload;
  // One more than is shown says whether there are more.
  const found = await services.directory.membersPage({ conversationId, after, limit: limit + 1 });
  // A view of the application's may name somebody twice.
  const page = new Map(found.slice(0, limit).map(({ userId, mayWrite }) => [userId, mayWrite]));
  return {
    type: "admin.members",
    payload: {
      conversation_id: conversationId,
      members: [...page].map(([user_id, may_write]) => ({ user_id, may_write })),
      next: found.length > limit ? [...page.keys()].at(-1)! : null,
    },
  };
});

export const addMembers = forAdmins<"admin.members.add", "directoryStore">(
  "admin.members.add",
  async ({ payload, services }) => {
    await unlessErased("user_ids", services.directoryStore.addMembers(payload.conversation_id, payload.user_ids));
    return ack;
  },
);

export const removeMembers = forAdmins<"admin.members.remove", "directoryStore">(
  "admin.members.remove",
  async ({ payload, services }) => {
    await services.directoryStore.removeMembers(payload.conversation_id, payload.user_ids);
    return ack;
  },
);

export const updateMember = forAdmins<"admin.members.update", "directoryStore">(
  "admin.members.update",
  async ({ payload, services }) => {
    const { conversation_id: conversationId, user_id: userId, may_write: mayWrite } = payload;
    const update = services.directoryStore.setMayWrite({ conversationId, userId }, mayWrite);
    const isThere = await unlessErased("user_id", update);
    if (!isThere)
      throw new ProtocolError("not_found", "There is no such member of this conversation.", {
        field: "payload.user_id",
      });
    return ack;
  },
);

export const upsertUsers = forAdmins<"admin.users.upsert", "directoryStore">(
  "admin.users.upsert",
  async ({ payload, services }) => {
    await unlessErased("user_ids", services.directoryStore.upsertUsers(payload.user_ids));
    return ack;
  },
);

/** Disabled users lose their connections on every node: each hears of the change from the directory [AUTH4]. */
export const disableUser = forAdmins<"admin.users.disable", "directoryStore">(
  "admin.users.disable",
  async ({ payload, services }) => {
    const { directoryStore } = services;
    if ((await directoryStore.userState(payload.user_id)) === "unknown") {
      throw new ProtocolError("not_found", "There is no such user.", { field: "payload.user_id" });
    }
    await unlessErased("user_id", directoryStore.setDisabled(payload.user_id, payload.disabled));
    return ack;
  },
);

/** @throws ProtocolError `conflict`, with the field, where it names somebody who is being erased [BAK4] */
async function unlessErased<Written>(field: "user_id" | "user_ids", write: Promise<Written>): Promise<Written> {
  try {
    return await write;
  } catch (error) {
    if (!(error instanceof BeingErased)) throw error;
    throw new ProtocolError("conflict", error.message, { field: `payload.${field}` });
  }
}
