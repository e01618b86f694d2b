/** Acknowledges for one device, where a test has no use for more at once. */
import type { CursorStore } from "../../src/storage/ports.ts";

/** @returns the cursor that is stored now */
export async function acknowledgeOne(
  cursors: Pick<CursorStore, "acknowledge">,
  userId: string,
  deviceId: string,
  cursor: string,
): Promise<string> {
  const [kept] = await cursors.acknowledge([{ userId, deviceId, cursor }]);
  return kept!;
}
