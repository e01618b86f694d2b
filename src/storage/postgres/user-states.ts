/** Asks PostgreSQL whether users may come in: about many at once, where many come at once [CON1] [PUB3]. */
import { Gathering } from "../../ground/gathering.ts";
import type { UserState } from "../directory-store.ts";
import { arrayOf } from "./connection.ts";
import type { Find } from "./memberships.ts";
import type { Pool } from "./pool.ts";

export interface UserStatements {
  user: string;
  stranger: string;
  users: string;
}

/** Few: of a view that is slow nobody waits for many. */
const atOnceMax = 16;
const underWayMax = 4;

export function createUserStates(
  { pool, now }: { pool: Pool; now: () => number },
  find: Find,
  sql: UserStatements,
): (userId: string) => Promise<UserState> {
  async function ofOne(userId: string): Promise<UserState> {
    const asked = [userId, userId, now()];
    const [row] = await find<{ disabled: boolean }>(sql.user, asked, () => pool.query(sql.stranger, asked));
    if (row === undefined) return "unknown";
    return row.disabled ? "disabled" : "active";
  }

  async function ofMany(userIds: string[]): Promise<(UserState | Promise<UserState>)[]> {
    if (userIds.length === 1) return [ofOne(userIds[0]!)];
    const ids = arrayOf(userIds);
    type Row = { disabled: boolean | null; isBlocked: boolean };
    // One that cannot be an id of the column is nobody's, and the others' are asked for all the same.
    const rows = await find<Row>(sql.users, [ids, ids, now()]);
    if (rows.length === 0) return userIds.map(ofOne);
    return rows.map(({ disabled, isBlocked }) => {
      if (isBlocked || disabled === true) return "disabled";
      return disabled === null ? "unknown" : "active";
    });
  }

  const gathering = new Gathering({ ask: ofMany, atOnceMax, underWayMax });
  return (userId) => gathering.ask(userId);
}
