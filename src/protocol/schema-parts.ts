/** Looks into valibot's schemas: what the forms and types that are written from them depend on. */

/** Shows of a schema, or of a check in its pipe, what is looked at; the library's own types are one for each kind. */
export interface Part {
  kind: string;
  type: string;
  pipe?: Part[];
  entries?: Record<string, Part>;
  options?: Part[];
  item?: Part;
  value?: Part;
  wrapped?: Part;
  literal?: unknown;
  requirement?: unknown;
}

/** A schema and the checks on it, however its pipes are nested. */
export const partsOf = (schema: Part): Part[] => schema.pipe?.flatMap(partsOf) ?? [schema];

/** Takes the last schema of a pipe, which says most. */
export const bare = (schema: Part): Part => partsOf(schema).findLast(({ kind }) => kind === "schema")!;
