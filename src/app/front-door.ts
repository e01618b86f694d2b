/** Composes what listens: the public listener, liveness, and the ear for other nodes. */
import { onceRead } from "../ground/next-turn.ts";
import { listenToBus } from "../websocket/bus-listener.ts";
import { Liveness } from "../websocket/liveness.ts";
import { bufferBytesMax, Server } from "../websocket/server.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";
import type { Calls } from "./calls.ts";
import type { Entrance } from "./entrance.ts";
import type { Foundation } from "./foundation.ts";
import type { Messaging } from "./messaging.ts";
import type { Presence } from "./presence.ts";
import type { Requests } from "./requests.ts";
import type { SessionParts } from "./sessions.ts";
import type { Sockets } from "./sockets.ts";
import type { Subscribing } from "./subscribing.ts";

export type FrontDoor = PartsOf<typeof composeFrontDoor>;

export function composeFrontDoor(
  { config, siblings, counts, logger, now }: Base,
  parts: Foundation & Sockets & Messaging & Presence & Calls & Subscribing & Entrance & SessionParts & Requests,
) {
  const { hub, tell, devices, survey } = parts;
  const server = new Server({ ...parts, config, counts, logger, now, sharesPort: siblings !== undefined });
  const liveness = new Liveness({ config, hub, tell, bufferBytesMax: bufferBytesMax(config.websocket), now, onceRead });
  return {
    parts: { server },
    async start() {
      listenToBus({ ...parts, surveys: [devices, survey], logger });
      await server.start();
      liveness.start();
    },
    async stop() {
      liveness.stop();
      await server.stop();
    },
    sweep: () => liveness.sweep(),
  } satisfies Area;
}
