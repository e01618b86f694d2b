/** Decides who may see whose presence, for topics, snapshots and queries alike [SUB1] [PRE4]. */
import type { Config } from "../config/schema.ts";
import { assertNever } from "../ground/assert.ts";
import type { DirectoryView } from "./directory.ts";

export interface VisibilityOptions {
  directory: Pick<DirectoryView, "sharingWith">;
  policy: Config["presence"]["visible_to"];
}

/**
 * Picks those of the others whose presence the user may see, and who may see the user's: every policy goes both ways.
 * Oneself is always among them. What a token grants by name is the application's own word, and is not asked about here.
 * @param sharing users who are known to share a conversation with the user: the directory is not asked about them again
 */
export type VisibleAmong = (userId: string, others: string[], sharing?: ReadonlySet<string>) => Promise<Set<string>>;

export function createVisibleAmong({ directory, policy }: VisibilityOptions): VisibleAmong {
  return async (userId, others, sharing = new Set()) => {
    switch (policy) {
      case "everyone":
        return new Set(others);
      case "shared_conversation": {
        const unknown = others.filter((other) => !sharing.has(other));
        const found = unknown.length === 0 ? [] : await directory.sharingWith(userId, unknown);
        return new Set([...found, ...others.filter((other) => other === userId || sharing.has(other))]);
      }
      default:
        return assertNever(policy);
    }
  };
}
