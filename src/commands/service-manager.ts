/** Tells a service manager such as systemd that this process serves, drains and is alive, by the socket of its NOTIFY_SOCKET [OPS7]. */
import type { Logger } from "../telemetry/logger.ts";
import type { CommandIo } from "./command.ts";

export interface ServiceManager {
  /** Everything has started; from now on it is told that the process is alive, where it has asked for that. */
  ready(status: string): void;
  /** The process has been told to end, and lets everybody go. */
  stopping(status: string): void;
}

/** Stands for that nobody waits to be told. */
const nobody: ServiceManager = { ready() {}, stopping() {} };

/** As sd_notify(3) and sd_watchdog_enabled(3) have it. */
export async function findServiceManager(env: CommandIo["env"], logger: Logger): Promise<ServiceManager> {
  const address = env.NOTIFY_SOCKET;
  if (address === undefined || address === "") return nobody;
  let send: (text: string) => void;
  try {
    send = await openSocket(address);
  } catch (err) {
    logger.warn({ err, address }, "the service manager cannot be told anything");
    return nobody;
  }
  let hasFailed = false;
  const tell = (text: string) => {
    try {
      send(text);
    } catch (err) {
      if (!hasFailed) logger.warn({ err, address }, "the service manager is not told everything");
      hasFailed = true;
    }
  };
  return {
    ready(status) {
      tell(`READY=1\nSTATUS=${status}`);
      const deadlineMs = watchdogMs(env);
      // A loop that stands still does not get here, which is what shows that it does.
      if (deadlineMs !== null) setInterval(() => tell("WATCHDOG=1"), deadlineMs / 2).unref();
    },
    stopping: (status) => tell(`STOPPING=1\nSTATUS=${status}`),
  };
}

/** Within what time it wants to hear of this process, again and again, ms; null where it does not. */
function watchdogMs(env: CommandIo["env"]): number | null {
  const isForAnother = env.WATCHDOG_PID !== undefined && env.WATCHDOG_PID !== String(process.pid);
  const microseconds = Number(env.WATCHDOG_USEC);
  return isForAnother || !(microseconds >= 1_000) ? null : microseconds / 1_000;
}

/** Names of the C library, of GNU's and of musl's. */
const libraries = ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`];

const unixFamily = 1;
const datagram = 2;
const closeOnExec = 0o2_000_000;
/** Linux's sockaddr_un has room for so many bytes of a path. */
const pathBytesMax = 107;

/** The platform has no datagrams on Unix sockets, so the C library is asked. @throws Error where it cannot be */
async function openSocket(address: string): Promise<(text: string) => void> {
  // `@` stands for the zero byte that a name without a file begins with.
  const isAbstract = address.startsWith("@");
  const path = Buffer.from(isAbstract ? `\0${address.slice(1)}` : `${address}\0`);
  if (!/^[/@]/.test(address) || path.length > pathBytesMax) throw new Error(`NOTIFY_SOCKET is ${address}`);
  const to = Buffer.concat([Buffer.from(new Uint16Array([unixFamily]).buffer), path]);

  const { dlopen, ptr } = await import("bun:ffi");
  const symbols = {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    sendto: { args: ["i32", "ptr", "usize", "i32", "ptr", "u32"], returns: "i64" },
  } as const;
  const open = (at: number): ReturnType<typeof dlopen<typeof symbols>>["symbols"] => {
    try {
      return dlopen(libraries[at]!, symbols).symbols;
    } catch (error) {
      if (at + 1 === libraries.length) throw error;
      return open(at + 1);
    }
  };
  const { socket, sendto } = open(0);
  // Kept open: a process that has run out of descriptors is still alive.
  const descriptor = socket(unixFamily, datagram | closeOnExec, 0);
  if (descriptor < 0) throw new Error("socket() failed");
  return (text) => {
    const bytes = Buffer.from(text);
    if (Number(sendto(descriptor, ptr(bytes), bytes.length, 0, ptr(to), to.length)) < 0)
      throw new Error(`nobody takes datagrams at ${address}`);
  };
}
