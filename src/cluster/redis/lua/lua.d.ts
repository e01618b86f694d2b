/** Tells the type check that a Lua file is imported as its text, and so is part of the compiled binary. */
declare module "*.lua" {
  const text: string;
  export default text;
}
