/** Spells out what is not seen in text of others' making, so that it steers no terminal and passes for nothing else. */

/**
 * Control characters (C0, DEL, C1), what has no width or turns the direction, line separators, halves of characters; of
 * joiners only those that join no emoji.
 */
const unseen =
  /(?!\u200d)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]|(?<![\p{Extended_Pictographic}\p{Emoji_Modifier}])(?<!\ufe0f)\u200d|\u200d(?!\p{Extended_Pictographic})/gu;

/** The text in one line, with `\u…` for what is not seen: within JSON it says the same as before. */
export function visible(text: string): string {
  return text.replace(unseen, (it) =>
    [...Array(it.length).keys()].map((at) => `\\u${it.charCodeAt(at).toString(16).padStart(4, "0")}`).join(""),
  );
}
