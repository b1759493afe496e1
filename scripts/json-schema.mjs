/**
 * Writes docs/json-schema.json, the JSON Schema of the documents that commands print with --json, from their
 * TypeScript types: npm run docs:json. With --check it only compares, and exits 1 when the file is out of date.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = fileURLToPath(new URL('..', import.meta.url));
const file = `${root}docs/json-schema.json`;
const source = `${root}test/support/json-documents.ts`;

/** Turns types into schemas; a named object type becomes a definition, so that it is described once. */
class Schemas {
  definitions = {};
  #names = new Map();

  constructor(checker) {
    this.checker = checker;
  }

  of(type) {
    const { flags } = type;
    if (flags & (ts.TypeFlags.Any | ts.TypeFlags.Unknown)) return {};
    if (type.isStringLiteral() || type.isNumberLiteral()) return { const: type.value };
    if (flags & ts.TypeFlags.BooleanLiteral) return { const: this.checker.typeToString(type) === 'true' };
    if (flags & ts.TypeFlags.StringLike) return { type: 'string' };
    if (flags & ts.TypeFlags.NumberLike) return { type: 'number' };
    if (flags & ts.TypeFlags.BooleanLike) return { type: 'boolean' };
    if (flags & ts.TypeFlags.Null) return { type: 'null' };
    if (type.isUnion()) return this.#union(type.types.filter((one) => !(one.flags & ts.TypeFlags.Undefined)));
    if (this.checker.isArrayLikeType(type)) return this.#array(type);
    return this.#object(type);
  }

  #union(types) {
    const literals = types.filter((one) => one.isStringLiteral() || one.isNumberLiteral()).map(({ value }) => value);
    const booleans = types.filter(({ flags }) => flags & ts.TypeFlags.BooleanLiteral);
    const rest = types.filter((one) => !booleans.includes(one) && !('value' in one && literals.includes(one.value)));
    const parts = rest.map((one) => this.of(one));
    if (literals.length > 0) parts.push({ enum: literals.sort() });
    if (booleans.length === 2) parts.push({ type: 'boolean' });
    if (booleans.length === 1) parts.push(this.of(booleans[0]));
    return parts.length === 1 ? parts[0] : { anyOf: parts };
  }

  #array(type) {
    const items = this.checker.getTypeArguments(type).map((one) => this.of(one));
    if (!this.checker.isTupleType(type)) return { type: 'array', items: items[0] ?? {} };
    return { type: 'array', items, minItems: items.length, additionalItems: false };
  }

  #object(type) {
    const name = (type.aliasSymbol ?? type.symbol)?.name;
    if (name === undefined || name.startsWith('__') || type.aliasTypeArguments?.length > 0 || type.isIntersection()) {
      return this.#members(type);
    }
    if (!this.#names.has(type)) {
      const unique = name in this.definitions ? `${name}${this.#names.size}` : name;
      this.#names.set(type, unique);
      this.definitions[unique] = {};
      this.definitions[unique] = this.#members(type);
    }
    return { $ref: `#/definitions/${this.#names.get(type)}` };
  }

  #members(type) {
    const index = this.checker.getIndexInfosOfType(type).find(({ keyType }) => keyType.flags & ts.TypeFlags.String);
    const properties = {};
    const required = [];
    for (const symbol of this.checker.getPropertiesOfType(type)) {
      const member = this.checker.getTypeOfSymbol(symbol);
      if (member.getCallSignatures().length > 0) continue;
      const schema = this.of(member);
      const description = ts.displayPartsToString(symbol.getDocumentationComment(this.checker)).trim();
      properties[symbol.name] =
        description === '' ? schema : '$ref' in schema ? { description, allOf: [schema] } : { description, ...schema };
      const mayMiss = member.isUnion() && member.types.some(({ flags }) => flags & ts.TypeFlags.Undefined);
      if (!mayMiss && !(symbol.flags & ts.SymbolFlags.Optional)) required.push(symbol.name);
    }
    return {
      type: 'object',
      properties,
      required,
      additionalProperties: index === undefined ? false : this.of(index.type),
    };
  }
}

/** The schemas of all documents, under the command that prints each. */
export function jsonSchema() {
  const { config } = ts.readConfigFile(`${root}tsconfig.test.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const program = ts.createProgram([source], { ...options, noEmit: true, incremental: false, composite: false });
  const checker = program.getTypeChecker();
  const documents = program
    .getSourceFile(source)
    .statements.find((one) => ts.isInterfaceDeclaration(one) && one.name.text === 'Documents');
  const schemas = new Schemas(checker);
  const entries = documents.members.map((member) => [
    member.name.text,
    schemas.of(checker.getTypeOfSymbol(member.symbol)),
  ]);
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Documents of pcache --json, by command',
    documents: Object.fromEntries(entries),
    definitions: schemas.definitions,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const text = `${JSON.stringify(jsonSchema(), null, 1)}\n`;
  if (!process.argv.includes('--check')) writeFileSync(file, text);
  else if (readFileSync(file, 'utf8') !== text) {
    process.stderr.write('docs/json-schema.json is out of date; run: npm run docs:json\n');
    process.exitCode = 1;
  }
}
