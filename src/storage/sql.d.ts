/** Tells the type check that an SQL file is imported as its text, and so is part of the compiled binary. */
declare module "*.sql" {
  const text: string;
  export default text;
}
