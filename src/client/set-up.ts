/** Tells an application what in its set-up may keep it from ever connecting, for a bad set-up looks like a bad network. */
import type { ConnectionOptions } from "./connection.ts";
import type { Core } from "./core.ts";
import { ClientError } from "./errors.ts";

/** Tries in a row, so that a server which only just starts is not taken for a set-up that is wrong. */
const refusalsMost = 3;

/** @throws TypeError, naming it, where it cannot name a user, a device or a conversation on the wire */
export function checkIdentifier(name: string, value: unknown): void {
  if (typeof value !== "string" || !/^[!-~]{1,128}$/.test(value))
    throw new TypeError(`${name} must be 1 to 128 printable ASCII characters, without spaces.`);
}

/** @throws TypeError where the server could not know who this is */
export function checkOptions({ userId, deviceId, token, getToken }: Omit<ConnectionOptions, "store">): void {
  for (const [name, value] of Object.entries({ userId, deviceId }))
    if (value !== undefined) checkIdentifier(name, value);
  if (userId === undefined && token === undefined && getToken === undefined)
    throw new TypeError("One of userId, token and getToken is needed: else the server cannot know who this is.");
}

/** Tells once, until a connection has opened for the first time: from then on it is the network's fault. */
export function watchRefusals(core: Core, url: string, tell: (error: ClientError) => void): void {
  let refusals = 0;
  const stop = core.onState((state) => {
    if (state.status === "live" || (state.status === "waiting" && state.reason === "closed")) stop();
    else if (state.status === "waiting" && state.reason === "refused" && ++refusals === refusalsMost)
      tell(new ClientError("refused", { message: messageOf(url) }));
  });
}

const messageOf = (url: string) =>
  `No server has ever let this client in; it goes on trying. Is ${url} up? userId is for auth.mode trusted, a token for token; a page's origin has to be in server.allowed_origins.`;
