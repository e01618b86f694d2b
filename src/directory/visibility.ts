/** Decides who may see whose presence, for topics, snapshots and queries alike [SUB1] [PRE4] [BAK1]. */
import type { Config } from "../config/schema.ts";
import { assertNever } from "../ground/assert.ts";
import type { DirectoryView } from "./directory.ts";

export interface VisibilityOptions {
  directory: Pick<DirectoryView, "sharingWith">;
  policy: Config["presence"]["visible_to"];
}

/** Asks how somebody is. */
export interface Viewer {
  userId: string;
  roles: readonly string[];
}

/**
 * Picks those of the others whose presence the viewer may see: a backend all of them. Between users every policy goes both ways:
 * they may see the viewer's as well. Oneself is always among them. What a token grants by name is the application's own word, and
 * is not asked about here.
 * @param sharing users who are known to share a conversation with the viewer: the directory is not asked about them again
 */
export type VisibleAmong = (viewer: Viewer, others: string[], sharing?: ReadonlySet<string>) => Promise<Set<string>>;

export function createVisibleAmong({ directory, policy }: VisibilityOptions): VisibleAmong {
  return async ({ userId, roles }, others, sharing = new Set()) => {
    if (roles.includes("service")) return new Set(others);
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

/** Whether the viewer is told of somebody invisible as such: a backend, where the configuration says so. */
export const seesInvisible = (
  { roles }: Viewer,
  { service_sees_invisible }: Pick<Config["presence"], "service_sees_invisible">,
): boolean => service_sees_invisible && roles.includes("service");
