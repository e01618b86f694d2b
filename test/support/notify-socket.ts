/** Listens as a service manager does at its NOTIFY_SOCKET, by Python: Bun has no datagrams on Unix sockets. */
import { debianProgram } from "./debian.ts";
import { until } from "./until.ts";

const listener = `
import json, socket, sys
name = sys.argv[1]
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind("\\0" + name[1:] if name.startswith("@") else name)
print(json.dumps(None), flush=True)
while True:
    print(json.dumps(receiver.recv(4096).decode()), flush=True)
`;

import { linesOf } from "./lines.ts";

export interface NotifySocket {
  /** Everything that it was told, in order, each as its lines. */
  told: string[][];
  stop(): Promise<void>;
}

/** @param address a path, or `@name` for one without a file */
export async function listenForNotices(address: string): Promise<NotifySocket> {
  const python = debianProgram("python3", { package: "python3" });
  const child = Bun.spawn([python, "-c", listener, address], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  const told: string[][] = [];
  let isBound = false;
  void (async () => {
    for await (const line of linesOf(child.stdout)) {
      const notice = JSON.parse(line) as string | null;
      if (notice === null) isBound = true;
      else told.push(notice.split("\n"));
    }
  })();
  await until(async () => isBound);
  return {
    told,
    async stop() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}
