/** Decides who may call whom: the policy `calls.allowed_between` [CALL1]. */
import type { Config } from "../config/schema.ts";
import type { DirectoryView } from "../directory/directory.ts";
import { assertNever } from "../ground/assert.ts";
import type { Directory } from "../storage/directory-store.ts";
import type { CallServiceDeps } from "./service.ts";

export interface CallPermissionOptions {
  settings: Pick<Config["calls"], "allowed_between">;
  view: Pick<DirectoryView, "isMember" | "sharingWith">;
  directory: Pick<Directory, "userState">;
}

/** With a conversation named, both have to be in that one. */
export function createCallPermission({ settings, view, directory }: CallPermissionOptions): CallServiceDeps["mayCall"] {
  return async (from, to, conversationId) => {
    switch (settings.allowed_between) {
      case "everyone":
        return (await directory.userState(to)) === "active";
      case "shared_conversation": {
        if (conversationId === undefined) return (await view.sharingWith(from, [to])).has(to);
        const both = await Promise.all([from, to].map((userId) => view.isMember(conversationId, userId)));
        return both.every((it) => it);
      }
      default:
        return assertNever(settings.allowed_between);
    }
  };
}
