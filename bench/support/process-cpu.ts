/** Reads what another process of this machine has used of its processors. */
import { readFileSync } from "node:fs";

/** Seconds of a process, or of one thread (`<pid>/task/<id>`), by the kernel's count in hundredths; 0 where it runs on another machine. */
export function cpuSecondsOf(pid: number | string): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return 0;
  }
}
