/** Keeps a user within `max_devices`: for a newcomer the device heard from longest ago goes, on whatever node [CON3]. */
import type { Answers, Survey } from "../cluster/survey.ts";
import type { PresenceTracker } from "../presence/tracker.ts";
import { CloseCode } from "../protocol/close.ts";
import { type Outage, type OutageLogger, warnsOnce } from "../telemetry/outage.ts";
import type { Connection } from "./connection.ts";
import type { Hub } from "./hub.ts";

/** Lists the questions that nodes ask each other about one user's devices. */
export type DeviceQuestions = {
  /** For how long those of a user's connections that are on the node have been silent. */
  heard: {
    about: { userId: string; connectionIds: string[] };
    said: { connectionId: string; silentMs: number; isBackend: boolean }[];
  };
  /** Closes them with 4012. */
  dismiss: { about: { userId: string; connectionIds: string[] }; said: { dismissed: number } };
};

export interface DeviceLimitOptions {
  presence: Pick<PresenceTracker, "devicesOf">;
  /** Asks all nodes. */
  survey: Survey<DeviceQuestions>;
  devicesMax: number;
  logger: OutageLogger;
}

export class DeviceLimit {
  readonly #asking: Outage;

  constructor(private readonly options: DeviceLimitOptions) {
    const gone = "which devices are silent could not be asked";
    this.#asking = warnsOnce(options.logger, gone, "which devices are silent can be asked again");
  }

  /**
   * Sends away as many of the user's other devices as there are too many with this one. Backends are neither counted nor
   * sent away. A device that no node has a connection of, such as one of a node that is gone, was heard from longest ago.
   */
  async make(newcomer: Pick<Connection, "userId" | "deviceId">): Promise<void> {
    const { presence, devicesMax, logger } = this.options;
    const { userId, deviceId } = newcomer;
    const others = (await presence.devicesOf(userId)).filter((it) => it.deviceId !== deviceId);
    if (others.length < devicesMax) return;
    const heard = await this.#heardOf(
      userId,
      others.map(({ connectionId }) => connectionId),
    );
    const silence = (connectionId: string) => heard.get(connectionId)?.silentMs ?? Number.POSITIVE_INFINITY;
    const counted = others.filter(({ connectionId }) => heard.get(connectionId)?.isBackend !== true);
    const going = counted
      .sort(
        (one, other) =>
          // The same order on every node, for two newcomers must not send away two where one is too many.
          compare(silence(other.connectionId), silence(one.connectionId)) ||
          compare(one.connectedAt, other.connectedAt),
      )
      .slice(0, Math.max(0, counted.length + 1 - devicesMax));
    if (going.length === 0) return;
    const connectionIds = going.map(({ connectionId }) => connectionId);
    logger.info({ user_id: userId, connection_ids: connectionIds }, "too many devices: the longest silent go");
    // Nodes that are gone are not waited for; what they have left is taken out with them.
    this.#ask("dismiss", { userId, connectionIds }).catch(() => {});
  }

  async #heardOf(
    userId: string,
    connectionIds: string[],
  ): Promise<Map<string, { silentMs: number; isBackend: boolean }>> {
    try {
      const { answers } = await this.#ask("heard", { userId, connectionIds });
      this.#asking.ended();
      return new Map(answers.flatMap(({ said }) => said.map((it) => [it.connectionId, it] as const)));
    } catch (error) {
      // Then the oldest go: nobody is kept out for a question that could not be asked.
      this.#asking.began(error);
      return new Map();
    }
  }

  #ask<Name extends keyof DeviceQuestions>(name: Name, about: DeviceQuestions[Name]["about"]) {
    return this.options.survey.ask(name, about);
  }
}

/** Answers for the connections of this node. */
export function createDeviceAnswers({ hub, now }: { hub: Hub; now: () => number }): Answers<DeviceQuestions> {
  /** Finds those of the user's connections that are here, or about to be. */
  const here = ({ userId, connectionIds }: { userId: string; connectionIds: string[] }) =>
    connectionIds
      .flatMap((connectionId) => hub.coming(connectionId) ?? hub.find({ userId, connectionId }))
      .filter((it) => !it.isClosed);

  return {
    async heard(about) {
      const at = now();
      return here(about).map(({ connectionId, lastHeardAt, roles, session }) => ({
        connectionId,
        silentMs: Math.max(0, at - lastHeardAt),
        isBackend: (session?.roles ?? roles).includes("service"),
      }));
    },
    async dismiss(about) {
      const dismissed = here(about);
      for (const connection of dismissed) connection.close(CloseCode.tooManyDevices, "too many devices");
      return { dismissed: dismissed.length };
    },
  };
}

const compare = (one: number, other: number) => (one === other ? 0 : one < other ? -1 : 1);
