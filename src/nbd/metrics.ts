/** The status of an attached cache as Prometheus reads it (text format 0.0.4), and an HTTP endpoint for it. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import { percentileNs, snapshotCount } from './histogram.js';
import type { AttachStatus } from './status.js';

const QUANTILES = [0.5, 0.9, 0.99, 0.999] as const;

interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'summary';
  readonly samples: readonly (readonly [labels: string, value: number, suffix?: string])[];
}

/** `readBytes` as `read_bytes`. */
function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function counters(prefix: string, values: object, help: string): Metric[] {
  return Object.entries(values as Record<string, number>).map(([name, value]) => ({
    name: `pcache_${prefix}_${snake(name)}_total`,
    help: `${snake(name).replaceAll('_', ' ')}, ${help}`,
    type: 'counter' as const,
    samples: [['', value] as const],
  }));
}

const gauge = (name: string, help: string, value: number): Metric => ({
  name: `pcache_${name}`,
  help,
  type: 'gauge',
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
  ];
  const { cache } = status;
  if (cache) {
    metrics.push(
      gauge('segments', 'segments of the cache', cache.segments),
      gauge('segments_used', 'segments in use', cache.segmentsUsed),
      gauge('gc_percent', 'garbage collection begins at this', cache.gcPercent),
      gauge('dirty_keys', 'keys in the log that are not on the backing device', cache.dirtyKeys),
      gauge('dirty_bytes', 'bytes of these', cache.dirtyBytes),
      gauge('waiting_requests', 'requests that wait for room or for write-back', cache.waitingRequests),
      gauge('pending_backing_reads', 'reads under way at the backing device', cache.pendingBackingReads),
      gauge('index_entries', 'entries of the index', cache.indexEntries),
      gauge('index_memory_bytes', 'memory of the index', cache.indexMemoryBytes),
      gauge('writeback_failing', '1 while write-back fails', cache.writebackError === null ? 0 : 1),
      gauge('failed', '1 when the cache device has failed', cache.failure === null ? 0 : 1),
      ...counters('engine', cache.engine, 'of the engine'),
    );
  }
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
  readonly port: number;
  close(): void;
}

/** Serves `/metrics` over HTTP. @throws PcacheError when the address cannot be had. */
export async function serveMetrics(host: string, port: number, status: () => AttachStatus): Promise<MetricsEndpoint> {
  const server: Server = createServer((request, response) => {
    const isOurs = request.method === 'GET' && request.url === '/metrics';
    const headers = { 'content-type': isOurs ? 'text/plain; version=0.0.4' : 'text/plain' };
    response.writeHead(isOurs ? 200 : 404, headers);
    response.end(isOurs ? metricsText(status()) : 'GET /metrics\n');
  });
  server.maxConnections = 16;
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
  } catch (error) {
    const where = `${host} port ${port}`;
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') {
      throw new PcacheError('BUSY', `${where}: in use; give another --metrics`, { cause: error });
    }
    throw fromSystemError(error, where, 'serving metrics on it');
  }
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
