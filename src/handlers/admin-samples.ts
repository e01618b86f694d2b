/** Answers operators who ask for the last hour, by samples of all nodes joined to those of the cluster [ADM1]. */
import { ProtocolError } from "../protocol/errors.ts";
import { joinSamples } from "../telemetry/samples.ts";
import { forAdmins } from "./for-admins.ts";

/** A sample is given once every node has had so long to take its own, ms. */
const settleMs = 1_500;

export const samples = forAdmins<"admin.samples", "now">("admin.samples", async ({ payload, services }) => {
  const { admin, now } = services;
  const { node_id: only } = payload;
  const after = payload.after === undefined ? 0 : Date.parse(payload.after);
  const { answers, missing } = await admin.survey.ask("samples", { after }, { only });
  if (only !== undefined && answers.length + missing.length === 0)
    throw new ProtocolError("not_found", "There is no such node.", { field: "payload.node_id" });
  const isSettled = ({ at }: { at: string }) => Date.parse(at) + admin.stepMs + settleMs <= now();
  return {
    type: "admin.samples",
    payload: {
      step_ms: admin.stepMs,
      samples: joinSamples(answers.map(({ said }) => said)).filter(isSettled),
      missing_nodes: missing,
    },
  };
});
