/** Asks PostgreSQL who is in which conversation, and how many: of many users at once, where they ask at once [PUB3]. */
import { Gathering } from "../../ground/gathering.ts";
import type { Memberships } from "../directory-store.ts";
import { arrayOf, type Parameter } from "./connection.ts";

/** Asks, and otherwise where an id cannot be one of its column. */
export type Find = <Row extends object>(
  text: string,
  parameters: Parameter[],
  otherwise?: () => Promise<Row[]>,
) => Promise<Row[]>;

export interface MembershipStatements {
  membershipsAmong: string;
  membershipsAmongAsText: string;
  membershipsOfMany: string;
}

export interface CountStatements {
  memberCounts: string;
  memberCountsAsText: string;
}

interface CountQuestion {
  conversationIds: string[];
  most: number;
}

type MemberCounts = Map<string, number>;

interface Question {
  userId: string;
  conversationIds: string[];
}

/** Conversations of one question that is asked together with others', and such questions of one statement: of a view that is slow nobody waits for many. */
const gatheredMax = 20;
const atOnceMax = 16;
const underWayMax = 4;

export function createMembershipQuestion(find: Find, sql: MembershipStatements) {
  async function ofOne({ userId, conversationIds }: Question): Promise<Memberships> {
    if (conversationIds.length === 0) return new Map();
    type Row = { id: string; mayWrite: boolean };
    const parameters = [userId, arrayOf(conversationIds)];
    const rows = await find<Row>(sql.membershipsAmong, parameters, () => find(sql.membershipsAmongAsText, parameters));
    return new Map(rows.map(({ id, mayWrite }) => [id, { mayWrite }]));
  }

  async function ofMany(questions: Question[]): Promise<(Memberships | Promise<Memberships>)[]> {
    if (questions.length === 1) return [ofOne(questions[0]!)];
    const pairs = questions.flatMap(({ userId, conversationIds }, asked) =>
      conversationIds.map((id) => ({ userId, id, asked })),
    );
    const parameters = [
      arrayOf(pairs.map(({ userId }) => userId)),
      arrayOf(pairs.map(({ id }) => id)),
      arrayOf(pairs.map(({ asked }) => asked)),
    ];
    let areIds = true;
    const rows = await find<{ asked: number; id: string; mayWrite: boolean }>(
      sql.membershipsOfMany,
      parameters,
      async () => {
        areIds = false;
        return [];
      },
    );
    // Not everybody's question is asked otherwise for what one of them has named.
    if (!areIds) return questions.map(ofOne);
    const found: Memberships[] = questions.map(() => new Map());
    for (const { asked, id, mayWrite } of rows) found[asked]!.set(id, { mayWrite });
    return found;
  }

  const gathering = new Gathering({ ask: ofMany, atOnceMax, underWayMax });
  return (userId: string, conversationIds: string[]): Promise<Memberships> => {
    const question = { userId, conversationIds };
    return conversationIds.length > gatheredMax ? ofOne(question) : gathering.ask(question);
  };
}

export function createMemberCounts(find: Find, sql: CountStatements) {
  type Row = { conversationId: string; count: number };
  const countsOf = (rows: Row[]) => new Map(rows.map(({ conversationId, count }) => [conversationId, count]));

  async function ofOne({ conversationIds, most }: CountQuestion): Promise<MemberCounts> {
    const parameters = [arrayOf(conversationIds), most];
    return countsOf(await find<Row>(sql.memberCounts, parameters, () => find(sql.memberCountsAsText, parameters)));
  }

  async function ofMany(questions: CountQuestion[]): Promise<(MemberCounts | Promise<MemberCounts>)[]> {
    if (questions.length === 1) return [ofOne(questions[0]!)];
    const conversationIds = new Set(questions.flatMap((question) => question.conversationIds));
    let areIds = true;
    const rows = await find<Row>(sql.memberCounts, [arrayOf([...conversationIds]), questions[0]!.most], async () => {
      areIds = false;
      return [];
    });
    if (!areIds) return questions.map(ofOne);
    const counts = countsOf(rows);
    return questions.map(() => counts);
  }

  const gathering = new Gathering({ ask: ofMany, atOnceMax, underWayMax });
  /** @returns what it finds of those asked for, and maybe of others */
  return (conversationIds: string[], most: number): Promise<MemberCounts> => {
    const question = { conversationIds, most };
    return conversationIds.length > gatheredMax ? ofOne(question) : gathering.ask(question, most);
  };
}
