/** What all JSON documents of the commands have in common; docs/json.md describes them. Pure. */

/** Raised by a change of the documents that a reader could stumble over; a new member is none. */
export const JSON_SCHEMA_VERSION = 1;

/** The document with its version in front. */
export function versioned(document: unknown): object {
  return { schemaVersion: JSON_SCHEMA_VERSION, ...(document as object) };
}
