/** Reads the identity of the installation that a database holds. */
import { Unavailable } from "../../ground/unavailable.ts";
import type { Pool } from "./pool.ts";

/**
 * Joins the identity that was made with the log with what names the database itself: a copy that was made by a dump or of
 * a template holds the same row, and is an installation of its own all the same.
 * @returns 16 characters of hexadecimal
 */
export async function readInstallation(pool: Pool, ws: string): Promise<string> {
  const [row] = await pool.query<{ id: string; database: string }>(
    `SELECT installation_id AS id, (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS database
     FROM ${ws}.installation`,
  );
  if (row === undefined) {
    throw new Unavailable(
      "storage",
      `The table ${ws}.installation is empty. Put back its one row: INSERT INTO ${ws}.installation VALUES (1, gen_random_uuid());`,
    );
  }
  const parts = [row.id, row.database, await serverOf(pool)];
  return new Bun.CryptoHasher("sha256").update(parts.join(" ")).digest("hex").slice(0, 16);
}

const insufficientPrivilege = "42501";

/** Names the server, its standbys included; empty where the role may not ask. */
async function serverOf(pool: Pool): Promise<string> {
  try {
    const [row] = await pool.query<{ server: string }>(
      "SELECT system_identifier::text AS server FROM pg_control_system()",
    );
    return row!.server;
  } catch (error) {
    const { code } = ((error as Error).cause ?? error) as { code?: unknown };
    if (code === insufficientPrivilege) return "";
    throw error;
  }
}
