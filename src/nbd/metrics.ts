/** The status of an attached cache as Prometheus reads it (text format 0.0.4), and an HTTP endpoint for it. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { percentileNs, snapshotCount } from './histogram.js';
import { tcpError } from './listen.js';
import type { LatencyKind } from './activity.js';
import type { AttachStatus } from './status.js';

const QUANTILES = [0.5, 0.9, 0.99, 0.999] as const;

export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'summary';
  readonly samples: readonly (readonly [labels: string, value: number, suffix?: string])[];
}

/** `readBytes` as `read_bytes`. */
function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** A counter for each member of `values`. */
export function counters(prefix: string, values: object, help: string): Metric[] {
  return Object.entries(values as Record<string, number>).map(([name, value]) => ({
    name: `pcache_${prefix}_${snake(name)}_total`,
    help: `${snake(name).replaceAll('_', ' ')}, ${help}`,
    type: 'counter' as const,
    samples: [['', value] as const],
  }));
}

export const gauge = (name: string, help: string, value: number): Metric => ({
  name: `pcache_${name}`,
  help,
  type: 'gauge',
  samples: [['', value]],
});

const counter = (name: string, help: string, value: number): Metric => ({
  name: `pcache_${name}`,
  help,
  type: 'counter',
  samples: [['', value]],
});

function latency(status: AttachStatus): Metric {
  return {
    name: 'pcache_request_duration_seconds',
    help: 'from receiving a request to handing its reply to the socket, since the start',
    type: 'summary',
    samples: Object.entries(status.latency).flatMap(([kind, snapshot]) => {
      const label = `kind="${snake(kind)}"`;
      return [
        ...QUANTILES.map(
          (quantile) => [`${label},quantile="${quantile}"`, percentileNs(snapshot, quantile * 100) / 1e9] as const,
        ),
        [label, status.latencySumNs[kind as LatencyKind] / 1e9, '_sum'] as const,
        [label, snapshotCount(snapshot), '_count'] as const,
      ];
    }),
  };
}

export function metricsText(status: AttachStatus): string {
  const { connections, ...server } = status.server;
  const metrics: Metric[] = [
    gauge('size_bytes', 'size of the logical device', status.sizeBytes),
    gauge('uptime_seconds', 'since clients could connect', status.uptimeMs / 1000),
    gauge('connections', 'clients that are connected', connections),
    ...counters('server', server, 'as clients sent them'),
    latency(status),
    gauge('writes_slowed', '1 while writes are slowed because the cache is nearly full', status.pacing.slowed ? 1 : 0),
    counter(
      'write_replies_held_total',
      'Replies to writes that were held back to slow writers',
      status.pacing.heldReplies,
    ),
    counter('writes_slowed_seconds_total', 'Time in which writes were slowed', status.pacing.slowedMs / 1000),
  ];
  const { cache } = status;
  if (cache) {
    metrics.push(
      gauge('segments', 'segments of the cache', cache.segments),
      gauge('segments_used', 'segments in use', cache.segmentsUsed),
      gauge('gc_percent', 'garbage collection begins at this', cache.gcPercent),
      gauge('dirty_keys', 'keys in the log that are not on the backing device', cache.dirtyKeys),
      gauge('dirty_bytes', 'bytes of these', cache.dirtyBytes),
      gauge(
        'dirty_oldest_seconds',
        'age of the oldest data that is not on the backing device; 0 when there is none',
        (cache.oldestDirtyMs ?? 0) / 1000,
      ),
      gauge('waiting_requests', 'requests that wait for room or for write-back', cache.waitingRequests),
      gauge('pending_backing_reads', 'reads under way at the backing device', cache.pendingBackingReads),
      gauge('index_entries', 'entries of the index', cache.indexEntries),
      gauge('index_memory_bytes', 'memory of the index', cache.indexMemoryBytes),
      gauge('writeback_failing', '1 while write-back fails', cache.writebackError === null ? 0 : 1),
      gauge('failed', '1 when the cache device has failed', cache.failure === null ? 0 : 1),
      ...counters('engine', cache.engine, 'of the engine'),
    );
  }
  return renderMetrics(metrics);
}

/** Metrics in the text format 0.0.4. */
export function renderMetrics(metrics: readonly Metric[]): string {
  return metrics
    .map(({ name, help, type, samples }) => {
      const lines = samples.map(([labels, value, suffix]) => {
        return `${name}${suffix ?? ''}${labels === '' ? '' : `{${labels}}`} ${value}\n`;
      });
      return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`;
    })
    .join('');
}

export interface MetricsEndpoint {
  readonly url: string;
  /** Answers from now on; before, requests are answered with 503. */
  serve(status: () => Promise<AttachStatus>): void;
  close(): void;
}

const CLIENTS_MAX = 16;
/** How long a client may take for its request, and between two. */
const REQUEST_MAX_MS = 10_000;

/** Serves `/metrics` over HTTP. @throws PcacheError when the address cannot be had. */
export async function listenForMetrics(host: string, port: number): Promise<MetricsEndpoint> {
  let source: (() => Promise<AttachStatus>) | undefined;
  const limits = { requestTimeout: REQUEST_MAX_MS, headersTimeout: REQUEST_MAX_MS, keepAliveTimeout: REQUEST_MAX_MS };
  const server: Server = createServer(limits, (request, response) => void answer(request, response, source));
  server.maxConnections = CLIENTS_MAX;
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
  } catch (error) {
    throw tcpError(error, `${host} port ${port}`, host, '--metrics', '--metrics-address');
  }
  const shownHost = host.includes(':') ? `[${host}]` : host;
  return {
    url: `http://${shownHost}:${(server.address() as AddressInfo).port}/metrics`,
    serve: (status) => (source = status),
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answer(
  { method, url = '' }: IncomingMessage,
  response: ServerResponse,
  source: (() => Promise<AttachStatus>) | undefined,
): Promise<void> {
  const end = (status: number, text: string, headers: Record<string, string> = {}) => {
    response.writeHead(status, {
      'content-type': 'text/plain; charset=utf-8',
      'content-length': Buffer.byteLength(text),
      ...headers,
    });
    response.end(method === 'HEAD' ? undefined : text);
  };
  if (url.split('?', 1)[0] !== '/metrics') end(404, 'GET /metrics\n');
  else if (method !== 'GET' && method !== 'HEAD') end(405, 'GET /metrics\n', { allow: 'GET, HEAD' });
  else if (source === undefined) end(503, 'the cache is being opened\n');
  else end(200, metricsText(await source()), { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
}
