/** Names the keys and channels in Redis, and the buckets that keep together what one script works on. */

/**
 * Users and topics fall into so many hash tags. All keys of a tag are on one master of a Redis Cluster, so a script may
 * touch a user, the counters and a node's users at once, and topics of one tag share a SUBSCRIBE.
 * Every node of a cluster must have the same number.
 */
const bucketsCount = 64;

export const buckets: readonly number[] = Array.from({ length: bucketsCount }, (_, bucket) => bucket);

export function bucketOf(name: string): number {
  return Bun.hash.crc32(name) % bucketsCount;
}

/** Topics of one user share the bucket with what is known of the user, so that one script may speak on them. */
const bucketOfTopic = (topic: string) => bucketOf(topic.slice(topic.indexOf(":") + 1));

const marked = (prefix: string) => ({ mark: `${prefix}epoch`, settling: `${prefix}settling` });

/** The bucket that a channel's name carries. */
export function bucketOfChannel(channel: string): number {
  return Number(channel.slice(channel.indexOf("{") + 1, channel.indexOf("}")));
}

/**
 * The names of one installation. Each begins with its identity, channels as well, for these know no database number: two
 * installations on one Redis share nothing, whatever their settings are.
 */
export function createKeys(installation: string) {
  const root = `ws:${installation}`;
  const tag = (bucket: number) => `${root}:{${bucket}}`;
  const callsPrefix = `${root}:{calls}:`;
  return {
    topicChannel: (topic: string) => `${tag(bucketOfTopic(topic))}:topic:${topic}`,
    controlChannel: `${tag(0)}:control`,
    /** On which a node hears itself. */
    echoChannel: (bucket: number, run: string) => `${tag(bucket)}:echo:${run}`,

    /** Mark of all that is known of the bucket's users, and the key that is there while that is put back. */
    presence: (bucket: number) => marked(`${tag(bucket)}:`),
    /** A user's presence: version and record. */
    record: (userId: string) => `${tag(bucketOf(userId))}:record:${userId}`,
    /** Set: users with devices on one run of a node. */
    usersOf: (bucket: number, run: string) => `${tag(bucket)}:users:${run}`,
    /** Hash: `users` and `devices` of the bucket, and its last `version`. */
    totals: (bucket: number) => `${tag(bucket)}:totals`,

    /** Calls share one tag: a step may touch the calls of any two users. */
    callsPrefix,
    /** Sorted set of all calls by when they are due or their lease ends, ms. */
    due: `${callsPrefix}due`,
    calls: marked(callsPrefix),

    /** On which a run tries at its start what it may do. */
    probe: (run: string) => `${root}:{nodes}:probe:${run}`,

    /** Sorted set: running node → last sign of life by Redis's clock, ms. */
    seen: `${root}:{nodes}:seen`,
    /** Hash: running node → figures. */
    figures: `${root}:{nodes}:figures`,

    /**
     * The lease of the one node of an installation that reads a stream's group, on the same master of a Redis Cluster as the
     * stream. Written `turn`, as the rights of Redis users have it since 0.1.
     */
    lease: (stream: string, group: string) => `${/\{[^}]+\}/.test(stream) ? stream : `{${stream}}`}:turn:${group}`,
  };
}

export type Keys = ReturnType<typeof createKeys>;

/** The slot of a Redis Cluster that a bucket's keys and channels are in: CRC-16/XMODEM of the tag. */
export function slotOf(bucket: number): number {
  let crc = 0;
  for (const byte of Buffer.from(String(bucket))) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  }
  return (crc & 0xffff) % 16_384;
}
