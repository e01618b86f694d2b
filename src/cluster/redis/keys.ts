/** The names of keys and channels in Redis, and the buckets that keep together what one script works on. */

/**
 * Users and topics fall into so many hash tags. All keys of a tag are on one master of a Redis Cluster, so a script may
 * touch a user, the counters and a node's users at once, and topics of one tag share a SUBSCRIBE.
 * Every node of a cluster must have the same number.
 */
export const bucketsCount = 64;

export const buckets: readonly number[] = Array.from({ length: bucketsCount }, (_, bucket) => bucket);

export function bucketOf(name: string): number {
  return Bun.hash.crc32(name) % bucketsCount;
}

const tag = (bucket: number) => `ws:{${bucket}}`;

export const topicChannel = (topic: string) => `${tag(bucketOf(topic))}:topic:${topic}`;
export const controlChannel = `${tag(0)}:control`;
/** On which a node hears itself. */
export const echoChannel = (bucket: number, instance: string) => `${tag(bucket)}:echo:${instance}`;

/** The bucket that a channel's name carries. */
export function bucketOfChannel(channel: string): number {
  return Number(channel.slice(channel.indexOf("{") + 1, channel.indexOf("}")));
}

/** Hash: device id → entry. */
export const devicesKey = (userId: string) => `${devicesPrefix(bucketOf(userId))}${userId}`;
export const devicesPrefix = (bucket: number) => `${tag(bucket)}:devices:`;
/** Set: users with devices on one running node. */
export const ownedPrefix = (bucket: number) => `${tag(bucket)}:owned:`;
export const ownedKey = (bucket: number, instance: string) => `${ownedPrefix(bucket)}${instance}`;
/** Hash: `users` and `devices` of the bucket. */
export const countsKey = (bucket: number) => `${tag(bucket)}:counts`;

/** Calls share one tag: a step may touch the calls of any two users. */
export const callsPrefix = "ws:{calls}:";
/** Sorted set of all calls by when they are due or their lease ends, ms. */
export const dueKey = `${callsPrefix}due`;
export const callsEpochKey = `${callsPrefix}epoch`;
/** Is there while nodes put back calls that were lost. */
export const callsSettlingKey = `${callsPrefix}settling`;

/** Sorted set: running node → last sign of life by Redis's clock, ms. */
export const seenKey = "ws:{nodes}:seen";
/** Hash: running node → figures. */
export const figuresKey = "ws:{nodes}:figures";

export const blockKey = (userId: string) => `ws:{blocks}:user:${userId}`;
export const blocksEpochKey = "ws:{blocks}:epoch";

/** The slot of a Redis Cluster that a bucket's keys and channels are in: CRC-16/XMODEM of the tag. */
export function slotOf(bucket: number): number {
  let crc = 0;
  for (const byte of Buffer.from(String(bucket))) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  }
  return (crc & 0xffff) % 16_384;
}
