/** Describes as a port what keeps who is here while the only node is restarted [PRE1]. */

export interface PresentUser {
  userId: string;
  /** Opaque text. */
  record: string;
}

export interface PresentStore {
  /** Keeps them, in place of what is kept of them. */
  keepPresent(present: PresentUser[]): Promise<void>;
  /** Gives back and forgets what was kept, at most `limit`; over all nodes each is given once. */
  takePresent(limit: number): Promise<PresentUser[]>;
}
