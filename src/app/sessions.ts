/** Composes the way of a connection from open to closed: registration within the limit of devices, sessions, clean-up. */
import { Survey } from "../cluster/survey.ts";
import { CleanUp } from "../websocket/clean-up.ts";
import { createDeviceAnswers, DeviceLimit, type DeviceQuestions } from "../websocket/device-limit.ts";
import { Registration } from "../websocket/registration.ts";
import { Sessions } from "../websocket/sessions.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";
import type { Calls } from "./calls.ts";
import type { Entrance } from "./entrance.ts";
import type { Foundation } from "./foundation.ts";
import type { Presence } from "./presence.ts";
import type { Sockets } from "./sockets.ts";
import type { Subscribing } from "./subscribing.ts";

export type SessionParts = PartsOf<typeof composeSessions>;

export function composeSessions(base: Base, parts: Foundation & Sockets & Presence & Calls & Subscribing & Entrance) {
  const { config, logger, counts, now, newId } = base;
  const { cluster, hub, presence } = parts;
  const { cursors } = parts.storage;
  const devices = new Survey<DeviceQuestions>({
    ...cluster,
    answers: createDeviceAnswers({ hub, now }),
    newId,
    logger,
  });
  const deviceLimit = new DeviceLimit({
    presence,
    survey: devices,
    devicesMax: config.presence.max_devices,
    logger,
  });
  const retentionMs = config.log.retention;
  const registration = new Registration({ ...parts, bus: cluster.bus, deviceLimit, cursors, retentionMs, logger });
  const sessions = new Sessions({ ...parts, config, registration, cursors, counts, now, logger });
  const cleanUp = new CleanUp({ ...parts, atOnce: config.websocket.unregister_buffer, counts, logger });
  return { parts: { devices, sessions, cleanUp }, stop: () => registration.stop() } satisfies Area;
}
