/** Makes of a `.sql` file's text what is sent to the engine: without its opening comment, with values where `${name}` stands. */

/** @throws Error where a value is not given */
export function sqlOf(file: string, values: Record<string, string | number> = {}): string {
  // That is for readers; what follows is sent to the letter.
  return file.replace(/^(--.*\n)+/, "").replace(/\$\{(\w+)\}/g, (placeholder, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`no value for ${placeholder} of an SQL file`);
    return String(value);
  });
}
