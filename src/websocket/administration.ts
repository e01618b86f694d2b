/** Joins what operators work with: the survey of all nodes, with this node's own answers [ADM1]. */
import type { Cluster } from "../cluster/ports.ts";
import { Survey } from "../cluster/survey.ts";
import type { AdminQuestions } from "../handlers/admin-questions.ts";
import type { Administration } from "../handlers/context.ts";
import { onlyAsks } from "../router/requests.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Samples } from "../telemetry/samples.ts";
import { createNodeAnswers, type NodeAnswerOptions } from "./node-answers.ts";
import { Watching } from "./watching.ts";

export interface AdministrationOptions extends Omit<NodeAnswerOptions, "nodeId"> {
  cluster: Cluster;
  samples: Samples;
  newId: () => string;
  logger: Logger;
}

export function createAdministration({ cluster, newId, logger, ...here }: AdministrationOptions): Administration {
  const { nodeId, bus, nodes } = cluster;
  const answers = createNodeAnswers({ nodeId, ...here });
  const survey = new Survey<AdminQuestions>({
    nodeId,
    bus,
    nodes,
    answers,
    newId,
    logger,
  });

  const watching = new Watching({ survey, bus, tell: here.tell, newId });
  return { nodeId, survey, nodes, watching, stepMs: here.samples.stepMs, onlyAsks, logger };
}
