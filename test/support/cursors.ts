/** Shows what is within a cursor, for tests that make and compare them: clients look at none of it [LOG4]. */

export interface CursorParts {
  /** The name of the log's epoch. */
  epoch: string;
  position: number;
}

export function partsOf(cursor: string): CursorParts {
  const [, epoch, position] = /^([0-9a-z]{8})\.([0-9a-z]{1,11})$/.exec(cursor)!;
  return { epoch: epoch!, position: Number.parseInt(position!, 36) };
}

export const positionOf = (cursor: string) => partsOf(cursor).position;

/** The cursor of another position in the same epoch. */
export const cursorAt = (cursor: string, position: number) => `${partsOf(cursor).epoch}.${position.toString(36)}`;
