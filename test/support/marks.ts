/** Marks one message, or up to one, where a test has no use for more at once. */
import type { Marked, ReceiptMark, ReceiptStore } from "../../src/storage/ports.ts";

/** @returns where the watermark is now and whether this mark moved it */
export async function markOne(
  receipts: Pick<ReceiptStore, "advance">,
  mark: ReceiptMark,
): Promise<Pick<Marked, "upToSeq" | "advanced">> {
  const [marked] = await receipts.advance([mark]);
  return { upToSeq: marked!.upToSeq, advanced: marked!.advanced };
}
