/** Says in one sentence why an address cannot be listened on, and which setting has named it. */
import { StartError } from "../config/faults.ts";

export interface ListenAddress {
  host: string;
  port: number;
  /** The settings of the two. */
  settings: { host: string; port: string };
}

/** Runs what listens. @throws StartError where the address is taken, not this machine's or not allowed */
export function listenAt<Listener>({ host, port, settings }: ListenAddress, listen: () => Listener): Listener {
  try {
    return listen();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const where = `${host.includes(":") ? `[${host}]` : host}:${port}`;
    const refuse = (setting: string, reason: string) => new StartError(setting, reason, { cause: error });
    switch (code) {
      case "EADDRINUSE":
        // With port 0 there is always one left: then it is the host that the system cannot do anything with.
        if (port === 0)
          throw refuse(settings.host, `${where} cannot be listened on: ${host} is no address of this machine.`);
        throw refuse(settings.port, `${where} is in use by another process.`);
      case "EACCES":
        throw refuse(settings.port, `${where} may not be listened on: this user lacks the permission.`);
      case "EADDRNOTAVAIL":
      case "EINVAL":
        throw refuse(settings.host, `${where} cannot be listened on: ${host} is no address of this machine.`);
      default:
        throw error;
    }
  }
}
