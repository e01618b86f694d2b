/** Handles messages about the connection itself: `ping`, `authenticate`, and the device's `ack`. */
import { momentText } from "../ground/moments.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { Handler } from "./context.ts";

/** Answers with the time, and with the cursor once the connection is somebody's [LOG4]. */
export const ping: Handler<"ping", "now" | "subscriptions"> = ({ from, services }) => ({
  type: "pong",
  payload: {
    server_time: momentText(services.now()),
    ...(from.isAuthenticated ? { cursor: services.subscriptions.cursorOf(from) } : {}),
  },
});

export const authenticate: Handler<"authenticate", "authenticate"> = ({ from, payload, services }) =>
  services.authenticate(from, payload);

/** Keeps the device's cumulative acknowledgement, forward only [LOG6]. */
export const acknowledge: Handler<"ack", "subscriptions" | "acknowledgements"> = async ({
  from,
  payload,
  services,
}) => {
  if (!(await services.subscriptions.hasSent(from, payload.cursor))) {
    throw new ProtocolError("invalid_payload", "This cursor is of another log, or above what was sent.", {
      field: "payload.cursor",
    });
  }
  const { userId, deviceId } = from;
  const cursor = await services.acknowledgements.write({ userId, deviceId, cursor: payload.cursor });
  return { type: "ack", payload: { cursor } };
};
