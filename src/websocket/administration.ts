/** Joins what operators work with: the survey of all nodes, with this node's own answers, and what blocks mean for who is here [ADM1]. */
import type { Cluster } from "../cluster/ports.ts";
import { Survey } from "../cluster/survey.ts";
import type { AdminQuestions } from "../handlers/admin-questions.ts";
import type { Administration } from "../handlers/context.ts";
import type { Logger } from "../telemetry/logger.ts";
import { createNodeAnswers, type NodeAnswerOptions } from "./node-answers.ts";

export interface AdministrationOptions extends Omit<NodeAnswerOptions, "nodeId"> {
  cluster: Cluster;
  newId: () => string;
  logger: Logger;
}

/** Users that are asked about at once. */
const share = 500;

export function createAdministration({ cluster, newId, logger, ...here }: AdministrationOptions): Administration {
  const { nodeId, bus, nodes, blocks } = cluster;
  const answers = createNodeAnswers({ nodeId, ...here });
  const survey = new Survey<AdminQuestions>({
    nodeId,
    bus,
    nodes,
    answers,
    newId,
    onFault: (error, name) => logger.warn({ err: error, question: name }, "another node was not answered"),
  });

  let isClosing = false;

  /** Closes connections of users who are blocked; the block itself closes those who are there when it is made. */
  async function closeBlocked(): Promise<void> {
    const userIds = here.hub.userIds();
    for (let start = 0; start < userIds.length; start += share) {
      const some = userIds.slice(start, start + share);
      const ends = await Promise.all(some.map((userId) => blocks.blockedUntil(userId)));
      for (const [at, userId] of some.entries()) {
        if (ends[at] !== null) await answers.disconnect({ match: { userId }, reason: "blocked" });
      }
    }
  }
  blocks.onDoubt?.(async () => {
    if (isClosing) return;
    isClosing = true;
    try {
      await closeBlocked();
    } catch (error) {
      logger.warn({ err: error }, "who is blocked is not known yet");
    } finally {
      isClosing = false;
    }
  });
  return { nodeId, survey, nodes, blocks, logger };
}
