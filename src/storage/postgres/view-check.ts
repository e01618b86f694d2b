/** Tries what is read of a view of the application's, and tells by the setting that names the view why that does not go [OPS2] [PUB3]. */
import { StartError } from "../../config/faults.ts";
import { Unavailable } from "../../ground/unavailable.ts";
import type { Pool } from "./pool.ts";

export interface NamedView {
  /** The setting, below `directory`. */
  kind: "users" | "members" | "conversations";
  /** As the setting has it. */
  name: string;
}

export const viewFault = ({ kind, name }: NamedView, why: string, options?: ErrorOptions) =>
  new StartError(`directory.${kind}`, `${name} cannot be used: ${why}.`, options);

/** @throws StartError where PostgreSQL refuses the statement for what the view is, or who may read it; Unavailable where it is away */
export async function tryView(pool: Pool, view: NamedView, text: string): Promise<void> {
  try {
    await pool.query(text);
  } catch (error) {
    const told = error instanceof Unavailable ? error.cause : error;
    if (!/^(22|42)/.test(String((told as { code?: unknown } | undefined)?.code))) throw error;
    throw viewFault(view, told instanceof Error ? told.message : String(told), { cause: error });
  }
}
