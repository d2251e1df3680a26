/** The page's sections of bars: which figures of which loads stand where. */
import { barCard, fairnessCard, ratioTile } from './bars.js';
import type { Html } from './html.js';
import { isBulk } from '../load/result.js';
import type { Load, LoadMode } from './loads.js';
import { MEASURES } from './measures.js';
import type { CompareReport } from './result.js';

type Cards = readonly (Html | undefined)[];

/** Ours with one worker as a factor of the best peer's. */
export function ratios(report: CompareReport): Cards {
  const crr = nearestLoad(report, 'crr', 8);
  const rr = nearestLoad(report, 'rr', 1);
  return [
    crr && ratioTile(report, 'the connections a second', crr, MEASURES.rate),
    crr && ratioTile(report, 'the CPU per connection', crr, MEASURES.cpu),
    crr && ratioTile(report, 'the 99th percentile of a connection', crr, MEASURES.p99),
    rr && ratioTile(report, 'the round trip', rr, MEASURES.p50),
  ];
}

/** The figures that people ask for first. */
export function glance(report: CompareReport): Cards {
  const crr = nearestLoad(report, 'crr', 8);
  const rr = nearestLoad(report, 'rr', 1);
  const both = [nearestLoad(report, 'bulk-tx', 8), nearestLoad(report, 'bulk-rx', 8)];
  return [
    crr && barCard(report, `Connections, ${crr.flows} at a time`, crr, MEASURES.rate),
    crr && barCard(report, `CPU per connection, ${crr.flows} at a time`, crr, MEASURES.cpu),
    crr && barCard(report, `99th percentile, ${crr.flows} at a time`, crr, MEASURES.p99),
    rr && barCard(report, 'Round trip, median', rr, MEASURES.p50),
    ...both.map((load) => load && barCard(report, bulkTitle(load), load, MEASURES.gigabits)),
  ];
}

/** What each load of UDP came to. */
export function udp(report: CompareReport): Cards {
  return report.loads
    .filter(({ mode }) => mode === 'udp-rr')
    .flatMap((load) => {
      const many = `${load.flows} at a time`;
      return [
        barCard(report, `Datagrams and their echoes, ${many}`, load, MEASURES.rate),
        barCard(report, `99th percentile, ${many}`, load, MEASURES.p99),
        barCard(report, `CPU per exchange, ${many}`, load, MEASURES.cpu),
      ];
    });
}

export function bulk(report: CompareReport): Cards {
  return bulkLoads(report).flatMap((load) => [
    barCard(report, bulkTitle(load), load, MEASURES.gigabits),
    barCard(report, `${bulkTitle(load)}: CPU per GB`, load, MEASURES.cpuPerGB),
  ]);
}

export function fairness(report: CompareReport): Cards {
  return bulkLoads(report).map((load) => fairnessCard(report, bulkTitle(load), load));
}

/** What idle connections and pending connects change, and what memory all takes. */
export function beside(report: CompareReport): Cards {
  const crr = nearestLoad(report, 'crr', 8);
  const cards = report.loads.flatMap((load) => {
    if (load.mode === 'stall')
      return [barCard(report, `Rate beside ${load.stalled} unanswered connects`, load, MEASURES.change)];
    if (load.mode !== 'idle') return [];
    return [
      barCard(report, `Rate beside ${load.idle} idle connections`, load, MEASURES.change),
      barCard(report, 'Memory of an idle connection', load, MEASURES.bytesPerFlow),
    ];
  });
  return [...cards, crr && barCard(report, `Memory, ${crr.flows} connections at a time`, crr, MEASURES.memory)];
}

/** The load of a mode whose number of flows comes nearest. */
function nearestLoad({ loads }: CompareReport, mode: LoadMode, flows: number): Load | undefined {
  const distance = (load: Load): number => Math.abs(load.flows - flows);
  return loads.filter((load) => load.mode === mode).toSorted((a, b) => distance(a) - distance(b))[0];
}

function bulkLoads({ loads }: CompareReport): readonly Load[] {
  return loads.filter(({ mode }) => isBulk(mode));
}

function bulkTitle({ mode, flows }: Load): string {
  return `${mode === 'bulk-tx' ? 'Guest to host' : 'Host to guest'}, ${flows} stream${flows === 1 ? '' : 's'}`;
}
