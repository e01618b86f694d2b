/** Draws text with the addresses in it as links. */
const address = /(https?:\/\/[^\s<>"]*[^\s<>".,:;!?)])/;

export function RichText({ text }: { text: string }) {
  // Split by a group: each second piece is what the group has matched.
  return text.split(address).map((piece, at) =>
    at % 2 === 0 ? (
      piece
    ) : (
      <a key={at} href={piece} target="_blank" rel="noreferrer">
        {piece}
      </a>
    ),
  );
}
