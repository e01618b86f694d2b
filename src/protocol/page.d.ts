/** Declares pages of the documentation as texts, which the bundler puts into the program. */
declare module "*.md" {
  const text: string;
  export default text;
}
