/** Says that a .proto file is imported as its text. */
declare module "*.proto" {
  const text: string;
  export default text;
}
