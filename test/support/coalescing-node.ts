/** The sending half of a node, on sockets of the test's and a clock that it turns, which writes together what comes closely [WIRE1]. */
import { Coalescer } from "../../src/broadcast/coalescer.ts";
import { createLocalBus } from "../../src/cluster/local/bus.ts";
import { jsonCodec } from "../../src/protocol/codec.ts";
import { Counts } from "../../src/telemetry/counts.ts";
import { createHandClock } from "./hand-clock.ts";
import { type NativeSocket, NativeSockets } from "./native-sockets.ts";

/** The window that tests give a node, ms. */
export const coalescedMs = 20;
export const topics = ["conversation:c1", "conversation:c2", "typing:c1"];

/** A node of some connections, all of them on all topics, that writes together what comes within `windowMs` to two or more. */
export function build({ windowMs, users = 4 }: { windowMs: number; users?: number }) {
  const clock = createHandClock({ settled: async () => {} });
  const native = new NativeSockets();
  const coalescer = new Coalescer({ native, timers: clock, windowMs, fromSubscribers: 2 });
  const sockets = Array.from({ length: users }, (_, at) =>
    native.open(`u${at}`, { connectionId: `u${at}`, deviceId: "phone", waiting: coalescer }),
  );
  const of = (matches: (socket: NativeSocket) => boolean) => sockets.filter(matches).map((it) => it.connection);
  let ids = 0;
  const common = {
    native,
    coalescer,
    recipients: {
      ofUser: (userId: string) => of(({ connection }) => connection.userId === userId),
      ofDevice: (deviceId: string) => of(({ connection }) => connection.deviceId === deviceId),
    },
    codecs: { json: jsonCodec, protobuf: jsonCodec },
    bus: createLocalBus(),
    counts: new Counts(),
    now: clock.now,
    newId: () => `e${++ids}`,
  };
  for (const { connection } of sockets) for (const topic of topics) connection.subscribe(topic);
  return { clock, native, coalescer, sockets, common };
}
