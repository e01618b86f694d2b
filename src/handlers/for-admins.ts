/** Guards the messages of operators: lets only their role through, and logs who asked for what [ADM1]. */
import type { ClientMessageType } from "../protocol/client.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { Handler, Services } from "./context.ts";

export type AdminMessageType = Extract<ClientMessageType, `admin.${string}`>;

/** Names of a list that a log line shows. */
const namesShown = 10;

/** Lets only the role `admin` through, and logs every request with who made it; what only asks is for who debugs, as a console asks on and on. */
export function forAdmins<Type extends AdminMessageType, Needs extends keyof Services = "admin">(
  type: Type,
  handle: Handler<Type, Needs | "admin">,
): Handler<Type, Needs | "admin"> {
  return (request) => {
    const { from, correlationId, services } = request;
    const { logger } = services.admin;
    const who = { type, by: from.userId, connection_id: from.connectionId, correlation_id: correlationId };
    if (!from.roles.includes("admin")) {
      logger.warn(who, "admin request refused");
      throw new ProtocolError("forbidden", "This needs the role admin.");
    }
    logger[services.admin.onlyAsks(type) ? "debug" : "info"](
      { ...who, request: shortened(request.payload) },
      "admin request",
    );
    return handle(request);
  };
}

function shortened(payload: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(payload).map(([name, value]) => [
      name,
      Array.isArray(value) && value.length > namesShown
        ? [...value.slice(0, namesShown), `and ${value.length - namesShown} more`]
        : value,
    ]),
  );
}
