/** Proves that leaving devices out costs no more than those who would hear the event [PUB1] [SUB6]. */
import { expect, test } from "bun:test";
import { Broadcaster } from "../../src/broadcast/broadcaster.ts";
import { Coalescer } from "../../src/broadcast/coalescer.ts";
import type { Recipient } from "../../src/broadcast/ports.ts";
import { createLocalBus } from "../../src/cluster/local/bus.ts";
import { realTimers } from "../../src/ground/timers.ts";
import { jsonCodec } from "../../src/protocol/codec.ts";
import { Counts } from "../../src/telemetry/counts.ts";

/** Connections of which each is on its own user's topic and on `everyone`, all of them of devices of one name. */
function build(users: number) {
  const on = new Map<string, Set<Recipient>>();
  const heard = new Map<Recipient, number>();
  let left = 0;
  const subscribersOf = (name: string) => on.get(name) ?? on.set(name, new Set()).get(name)!;
  const recipients = Array.from({ length: users }, (_, index): Recipient => {
    const recipient: Recipient = {
      format: "json",
      userId: `u${index}`,
      deviceId: "web",
      sendMessage() {},
      sendFrames() {},
      isSubscribed: (topic) => subscribersOf(topic).has(recipient),
      stepOut(topic) {
        left++;
        return subscribersOf(topic).delete(recipient);
      },
      stepBack: (topic) => void subscribersOf(topic).add(recipient),
    };
    for (const topic of ["everyone", `user:u${index}`]) subscribersOf(topic).add(recipient);
    return recipient;
  });
  const native = {
    publish(name: string) {
      for (const recipient of subscribersOf(name)) heard.set(recipient, (heard.get(recipient) ?? 0) + 1);
    },
    subscriberCount: (name: string) => subscribersOf(name).size,
  };
  const broadcaster = new Broadcaster({
    native,
    coalescer: new Coalescer({ native, timers: realTimers, windowMs: 0, fromSubscribers: 1 }),
    recipients: {
      ofUser: (userId) => recipients.filter((it) => it.userId === userId),
      ofDevice: (deviceId) => recipients.filter((it) => it.deviceId === deviceId),
    },
    codecs: { json: jsonCodec, protobuf: jsonCodec },
    bus: createLocalBus(),
    counts: new Counts(),
    now: () => 0,
    newId: () => "id",
  });
  return { broadcaster, recipients, heard, left: () => left };
}

const event = { type: "news", payload: {} };

test("[PUB1] any number of connections can be left out, and are on the topic again afterwards", () => {
  const { broadcaster, recipients, heard } = build(50_000);
  broadcaster.toAll(event, { exceptDevice: "web" });
  expect(heard.size).toBe(0);
  broadcaster.toAll(event, { except: recipients[0]! });
  expect(heard.size).toBe(49_999);
  expect(recipients.every((recipient) => recipient.isSubscribed("everyone"))).toBe(true);
});

test("[PUB1] on a user's topic only that user's connections are looked at", () => {
  const { broadcaster, recipients, heard, left } = build(100);
  broadcaster.toUser("u7", event, { exceptDevice: "web" });
  broadcaster.toUser("u8", event, { exceptDevice: "phone" });
  expect([...heard.keys()]).toEqual([recipients[8]!]);
  expect(left()).toBe(1);
});
