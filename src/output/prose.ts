/** Paragraphs written over several lines of source. Pure. */

/**
 * Template tag for help texts. The lines of a paragraph are joined, so that the width of the terminal alone decides
 * where they break. An empty line ends a paragraph; an indented line stays as it is.
 */
export function prose(strings: TemplateStringsArray, ...values: readonly (string | number)[]): string {
  const text = String.raw({ raw: strings }, ...values);
  return text.replace(/^\S.*(?:\n\S.*)*/gm, (paragraph) => paragraph.replaceAll('\n', ' '));
}
