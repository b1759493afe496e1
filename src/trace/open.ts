/**
 * Opens one file of a trace: unpacks it, finds out what it is and takes the reader for that.
 */
import { assert, PcacheError } from '../engine/errors.js';
import { BlkparseFormat } from './blkparse.js';
import type { ByteSource } from './bytes.js';
import { BiosnoopFormat } from './biosnoop.js';
import { shownText } from './field-reader.js';
import { BUFFER_BYTES } from './input.js';
import type { InputContext, OpenedFile, TraceInput } from './input.js';
import { IologFormat, iologVersion } from './iolog.js';
import { LineInput } from './lines.js';
import type { LineFormat } from './lines.js';
import { OracleGeneralInput } from './oracle-general.js';
import { firstLines, recognise } from './recognise.js';
import { deviceName, parseDeviceName, RECORD_HEADER_BYTES, recordKindOf } from './record.js';
import { Recording } from './recording.js';
import type { RequestSelector } from './select.js';
import { headerColumns, TableFormat } from './table.js';
import { knownTable } from './table-definitions.js';
import { fieldsOf, separatorOf } from './table-shape.js';
import { TracepointFormat } from './tracepoint.js';
import type { TraceFormat, TraceOptions } from './types.js';
import { fillAtLeast, openUnpacked } from './unpack.js';
import { VSCSI_LAYOUTS, VscsiInput } from './vscsi.js';
import { XperfFormat } from './xperf.js';

/** Bytes that a format without a signature is recognised by, where there are as many. */
const HEAD_BYTES = 64 * 1024;

const ACCEPTED =
  'docs/traces.md lists the formats; any other table can be read with --columns, and --format says what it is';

interface OpenContext extends InputContext {
  /** Common to the files of a blktrace recording. */
  readonly selector: RequestSelector;
  /** Not one of several files that blktrace made. */
  readonly isAlone: boolean;
}

/** Takes `source` over: closes it when this fails. Throws BAD_TRACE for what is no trace, and USAGE. */
export async function openInput(source: ByteSource, context: OpenContext, options: TraceOptions): Promise<TraceInput> {
  const unpacked = await openUnpacked(source);
  try {
    // Not cleared: what lies beyond the filled bytes is never looked at.
    const buffer = new Uint8Array(Buffer.allocUnsafeSlow(BUFFER_BYTES).buffer);
    let filledBytes = await fillAtLeast(unpacked, buffer, 0, RECORD_HEADER_BYTES);
    if (filledBytes > 0 && recordKindOf(buffer.subarray(0, filledBytes)) === undefined) {
      filledBytes = await fillAtLeast(unpacked, buffer, filledBytes, HEAD_BYTES);
    }
    if (filledBytes === 0 && unpacked.cutShort) {
      throw new PcacheError(
        'BAD_TRACE',
        `${source.name}: its ${unpacked.packing} data end before anything can be read of them; copy it again`,
      );
    }
    const file = { source: unpacked, buffer, filledBytes };
    const given = options.table === undefined ? options.format : 'columns';
    const format = filledBytes === 0 ? 'blktrace' : (given ?? formatOf(file));
    if (!context.isAlone && format !== 'blktrace') {
      throw new PcacheError(
        'BAD_TRACE',
        `${source.name}: is ${format}, not a blktrace recording; give it by its own name`,
      );
    }
    context.sink.devices.want(wantedDevice(format, options.device));
    return makeInput(file, format, context, options);
  } catch (error) {
    await unpacked.close();
    throw error;
  }
}

function formatOf({ source, buffer, filledBytes }: OpenedFile): TraceFormat {
  const recognised = recognise(buffer.subarray(0, filledBytes));
  if ('format' in recognised) return recognised.format;
  const within = source.packing === undefined ? '' : ` (in its ${source.packing} data)`;
  throw new PcacheError(
    'BAD_TRACE',
    `${source.name}: not a known trace${within}, found ${recognised.found}; ${recognised.remedy ?? ACCEPTED}`,
  );
}

/** Formats that name devices by the kernel's numbers. */
const KERNEL_DEVICES = new Set<TraceFormat>(['blktrace', 'blkparse', 'tracepoints', 'ftrace-blk']);

/** @returns `device` as the reader of this format will name it */
function wantedDevice(format: TraceFormat, device: string | undefined): string | undefined {
  if (device === undefined || !KERNEL_DEVICES.has(format)) return device;
  const number = parseDeviceName(device);
  if (number !== undefined) return deviceName(number);
  throw new PcacheError('USAGE', `device "${device}" of a trace: give its numbers as MAJOR,MINOR, for example 8,0`);
}

function makeInput(file: OpenedFile, format: TraceFormat, context: OpenContext, options: TraceOptions): TraceInput {
  const lines = (lineFormat: LineFormat): TraceInput => new LineInput(file, context, lineFormat);
  switch (format) {
    case 'blktrace':
      return new Recording(file, context, context.selector);
    case 'vscsi1':
      return new VscsiInput(file, context, VSCSI_LAYOUTS[0]);
    case 'vscsi2':
      return new VscsiInput(file, context, VSCSI_LAYOUTS[1]);
    case 'blkparse':
      return lines(new BlkparseFormat(options.action));
    case 'iolog':
      return lines(new IologFormat(versionOf(file)));
    case 'tracepoints':
    case 'ftrace-blk':
      return lines(new TracepointFormat(format, options.action));
    case 'biosnoop':
      return lines(new BiosnoopFormat());
    case 'xperf':
      return lines(new XperfFormat());
    case 'oracle-general':
      return new OracleGeneralInput(file, context);
    default:
      return lines(tableOf(file, format, options));
  }
}

function tableOf({ source, buffer, filledBytes }: OpenedFile, format: TraceFormat, options: TraceOptions): TableFormat {
  const definition = options.table ?? knownTable(format);
  assert(definition !== undefined, 'a table without a definition');
  const lines = firstLines(buffer.subarray(0, filledBytes)).slice(definition.skipLines ?? 0);
  const separator = definition.separator ?? separatorOf(lines);
  const isHeader = (line: string): boolean => headerColumns(definition, fieldsOf(line, separator)) !== undefined;
  if (definition.columns === undefined && !lines.some(isHeader)) {
    const found = shownText(lines[0] ?? '');
    throw new PcacheError(
      'BAD_TRACE',
      `${source.name}: must begin with a line that names its columns, at least ${definition.required.join(', ')}; ` +
        `found "${found}"; add it, or say with --columns what the columns hold`,
    );
  }
  return new TableFormat(definition, separator);
}

function versionOf({ source, buffer, filledBytes }: OpenedFile): 2 | 3 {
  const head = Buffer.from(buffer.subarray(0, Math.min(filledBytes, 256))).toString('latin1');
  const version = iologVersion(head);
  if (version === 2 || version === 3) return version;
  throw new PcacheError(
    'BAD_TRACE',
    `${source.name}: an iolog begins with the line "fio version 2 iolog" or "fio version 3 iolog"; add the right one`,
  );
}
