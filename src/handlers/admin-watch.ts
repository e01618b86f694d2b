/** Handles messages of operators who watch what a connection receives and sends [ADM1]. */
import { ProtocolError } from "../protocol/errors.ts";
import { notFound } from "./admin.ts";
import { ack } from "./context.ts";
import { forAdmins } from "./for-admins.ts";

export const watch = forAdmins<"admin.watch", "config">("admin.watch", async ({ from, payload, services }) => {
  const { connection_id: connectionId, payloads } = payload;
  if (payloads && !services.config.operations.show_payloads)
    throw new ProtocolError("forbidden", "Payloads are not shown here: operations.show_payloads is false.", {
      field: "payload.payloads",
    });
  const { found, missing } = await services.admin.watching.begin(from, { connectionId, payloads });
  if (found === null) throw notFound({ missing }, { what: "connection", field: "payload.connection_id" });
  const { watchId, connection } = found;
  const { connection_id, node_id, user_id, device_id } = connection;
  return {
    type: "admin.watch",
    payload: { watch_id: watchId, connection_id, node_id, user_id, device_id, payloads, missing_nodes: missing },
  };
});

export const unwatch = forAdmins("admin.unwatch", ({ from, payload, services }) => {
  if (services.admin.watching.end(from, payload.watch_id)) return ack;
  throw new ProtocolError("not_found", "This connection watches nothing of that id.", { field: "payload.watch_id" });
});
