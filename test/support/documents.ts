/** Validates what commands print with `--json` against docs/json-schema.json. */
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';

interface SchemaFile {
  readonly documents: Readonly<Record<string, object>>;
  readonly definitions: Readonly<Record<string, object>>;
}

export const schemaFile = JSON.parse(
  readFileSync(new URL('../../docs/json-schema.json', import.meta.url), 'utf8'),
) as SchemaFile;

const ajv = new Ajv({ allErrors: true, strict: false });

/** @returns what `text` breaks of the schema of the document `name`; empty when it is valid */
export function schemaErrors(name: string, text: string): string[] {
  const schema = schemaFile.documents[name];
  if (schema === undefined) return [`no schema for ${name}`];
  const validate = ajv.compile({ ...schema, definitions: schemaFile.definitions });
  if (validate(JSON.parse(text))) return [];
  return (validate.errors ?? []).map(({ instancePath, message = '', params }) => {
    return `${instancePath} ${message} ${JSON.stringify(params)}`;
  });
}
