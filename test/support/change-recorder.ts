/** Writes down what a directory tells, so that a test can wait for it. */
import type { Directory, DirectoryChange } from "../../src/storage/directory-store.ts";

export interface ChangeRecorder {
  /** Without when they were. */
  changes: DirectoryChange[];
  /** Resolves once a change that fits was told, before or after this call. */
  told(fits: (change: DirectoryChange) => boolean): Promise<DirectoryChange>;
  stop(): void;
}

export function recordChanges(directory: Directory): ChangeRecorder {
  const changes: DirectoryChange[] = [];
  const waiting = new Set<(change: DirectoryChange) => void>();
  const stop = directory.watch((change) => {
    changes.push("at" in change ? withoutMoment(change) : change);
    for (const listener of [...waiting]) listener(change);
  });
  return {
    changes,
    stop,
    told(fits) {
      const known = changes.find(fits);
      if (known) return Promise.resolve(known);
      return new Promise((resolve) => {
        const listener = (change: DirectoryChange) => {
          if (!fits(change)) return;
          waiting.delete(listener);
          resolve(change);
        };
        waiting.add(listener);
      });
    },
  };
}

function withoutMoment({ at: _, ...change }: MemberChange): DirectoryChange {
  return change;
}

type MemberChange = Extract<DirectoryChange, { conversationId: string }>;

export const isMemberChange =
  (kind: MemberChange["kind"], conversationId: string, userId: string) => (change: DirectoryChange) =>
    change.kind === kind && change.conversationId === conversationId && change.userId === userId;

export const isUserChange = (userId: string) => (change: DirectoryChange) =>
  change.kind === "user_changed" && change.userId === userId;
