/** Decides who may hear which topic [SUB1]. */
import type { DirectoryView } from "../directory/directory.ts";
import type { VisibleAmong } from "../directory/visibility.ts";
import type { Topic } from "../protocol/topic.ts";
import type { Subscriber } from "./subscriber.ts";

export interface AccessOptions {
  directory: DirectoryView;
  visibleAmong: VisibleAmong;
}

export class Access {
  constructor(private readonly options: AccessOptions) {}

  /**
   * Picks the topics that the subscriber may hear. In an open directory asking for a conversation joins it, unless it is
   * `unasked`: whoever was removed is not brought back by the server.
   * @param sharing users who are known to share a conversation with the subscriber: it is not asked again
   */
  async allowed(
    subscriber: Subscriber,
    topics: Topic[],
    { unasked = false, sharing = new Set<string>() } = {},
  ): Promise<Topic[]> {
    const { userId, roles, grants } = subscriber;
    const { ensureMemberships, membershipsAmong } = this.options.directory;
    const others = topics.flatMap(({ kind, key }) => (kind === "presence" ? [key] : []));
    const conversations = topics.flatMap(({ name, kind, key }) =>
      (kind === "conversation" || kind === "typing") && !grants.includes(name) ? [key] : [],
    );
    const [visible, mine] = await Promise.all([
      this.options.visibleAmong(userId, others, sharing),
      (unasked ? membershipsAmong : ensureMemberships)(userId, [...new Set(conversations)]),
    ]);
    const may = ({ name, kind, key }: Topic): boolean => {
      // A token of a user's that names it does not make a backend.
      if (kind === "log") return roles.includes("service");
      if (grants.includes(name)) return true;
      switch (kind) {
        case "user":
        case "calls":
        case "notifications":
          return key === userId;
        case "conversation":
        case "typing":
          return mine.has(key);
        case "presence":
          return visible.has(key);
      }
    };
    return topics.filter(may);
  }

  /** Picks the users whose presence the user may not see, and who may not see the user's. */
  async strangers(userId: string, others: string[]): Promise<string[]> {
    const visible = await this.options.visibleAmong(userId, others);
    return others.filter((other) => !visible.has(other));
  }
}
