/** The comparison as one self-contained HTML page: style, library, data and figures are all in it. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { packageRoot } from '../../src/packageRoot.js';
import { machineLine } from '../report/machine.js';
import type { ResultTable } from '../report/table.js';
import { barCard, fairnessCard } from './bars.js';
import type { BarCard } from './bars.js';
import { connectionCharts, latencyCharts, workerCharts } from './charts.js';
import type { LineChart } from './charts.js';
import { Html, embeddedJson, html } from './html.js';
import type { LoadMode } from './loads.js';
import { compareTables } from './report.js';
import type { CompareReport } from './result.js';
import { styleOf } from './style.js';

/** @returns a whole HTML document, which needs nothing from elsewhere */
export function comparePage(report: CompareReport): string {
  const connections = connectionCharts(report);
  const crrLatency = latencyCharts(report, 'crr');
  const rrLatency = latencyCharts(report, 'rr');
  const workers = workerCharts(report);
  const charts = [connections, crrLatency, rrLatency, workers].flat();
  // The runs are for the JSON file: here they would be most of the page.
  const { runs: _runs, ...figures } = report;
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>Slipway, side by side</title>
        <style>
          ${new Html(libraryFile('uPlot.min.css') + pageFile('page.css'))}
        </style>
      </head>
      <body>
        <header>${heading(report)}</header>
        <nav aria-label="Back ends">${legend(report)}</nav>
        <main>
          <noscript><p class="note">The curves need JavaScript; every figure is also in the tables below.</p></noscript>
          ${section('At a glance', 'Bars are medians over the rounds, the thin line is their range; the best network is set in bold.', glance(report))}
          ${section('Connections', 'Connect, a byte there, a byte back, close: M such connections going at once. Bands are the range of the rounds.', canvases(connections))}
          ${section('How long a connection takes', 'Read to the right for the slow ones: the curve at 99 % is what one in a hundred exceeds. All on one scale.', canvases(crrLatency, 'small'))}
          ${section('How long a request takes', 'A byte there and back over connections that stay open.', canvases(rrLatency, 'small'))}
          ${section('More workers', 'Each worker has a queue pair, and a thread of the driver, of its own; the CPUs are shared with driver and server.', canvases(workers))}
          ${section('Bulk', 'All the bytes that will go, and what they cost the network in CPU.', bulk(report))}
          ${section('Fairness between streams', 'Streams that share a network should share it evenly.', fairness(report))}
          ${section('Beside others', 'Four connections at a time: what changes when thousands lie idle beside them, or connects wait for an answer that never comes.', beside(report))}
          ${section('What the guest is offered', 'Features of virtio that the back end offers to its driver.', [features(report)])}
          ${section('All figures', '', compareTables(report).map(figureTable))}
          ${section('How it was measured', '', [method(report)])}
        </main>
        <script type="application/json" id="charts">
          ${embeddedJson(charts)}
        </script>
        <script type="application/json" id="report">
          ${embeddedJson(figures)}
        </script>
        <script>
          ${new Html(libraryFile('uPlot.iife.min.js'))};
        </script>
        <script>
          ${new Html(pageFile('charts.js'))};
        </script>
      </body>
    </html> `.text;
}

function pageFile(name: string): string {
  return readFileSync(join(packageRoot(), 'bench/compare/page', name), 'utf8');
}

function libraryFile(name: string): string {
  const main = createRequire(import.meta.url).resolve('uplot');
  return readFileSync(join(dirname(main), name), 'utf8');
}

/** Nothing if there is nothing to show. */
function section(title: string, text: string, content: readonly (Html | undefined)[]): Html | undefined {
  const shown = content.filter((each) => each !== undefined);
  if (shown.length === 0) return undefined;
  return html`<section>
    <h2>${title}</h2>
    ${text === '' ? undefined : html`<p class="lead">${text}</p>`}
    <div class="grid">${shown}</div>
  </section>`;
}

function heading({ machine, settings, date, complete, failures }: CompareReport): Html {
  const { rounds, seconds } = settings;
  return html`<h1>Slipway, side by side</h1>
    <p class="lead">
      User-mode networks under the same load driver, in turn: ${rounds} round${rounds === 1 ? '' : 's'} of ${seconds} s
      each, on ${machine.cores} × ${machine.cpu}, Linux ${machine.kernel}. ${new Date(date).toUTCString()}.
    </p>
    ${complete ? undefined : html`<p class="note">Not all rounds have been run yet.</p>`}
    ${failures.map(({ contender, load, message }) => html`<p class="note">${contender} failed in ${load}: ${message}</p>`)}`;
}

function legend(report: CompareReport): readonly Html[] {
  return report.contenders.map(({ name, label }) => {
    const { colour, dash } = styleOf(report, name);
    return html`<button type="button" aria-pressed="true" data-toggle="${name}" style="--c:var(${colour})"><i${dash ? html` class="dash"` : undefined}></i>${label}</button>`;
  });
}

function canvases(charts: readonly LineChart[], size = 'large'): readonly Html[] {
  return charts.map(
    ({ id, title, unit }) =>
      html`<figure class="card chart ${size}">
        <figcaption><b>${title}</b><span>${unit}</span></figcaption>
        <div id="${id}" role="img" aria-label="${title}"></div>
      </figure>`,
  );
}

function glance(report: CompareReport): readonly (Html | undefined)[] {
  const [crr, rr, tx, rx] = [
    nearest(report, 'crr', 8),
    nearest(report, 'rr', 1),
    nearest(report, 'bulk-tx', 8),
    nearest(report, 'bulk-rx', 8),
  ];
  const at = (load: Named): string => `${load.flows} at a time`;
  const streams = (load: Named): string => `${load.flows} stream${load.flows === 1 ? '' : 's'}`;
  const gigabits = { figure: 'rate', factor: 1e-9, digits: 1, unit: 'Gbit/s', better: 'more' } as const;
  const cards: (BarCard | undefined)[] = [
    crr && {
      title: `Connections per second, ${at(crr)}`,
      load: crr.name,
      figure: 'rate',
      factor: 1,
      digits: 0,
      unit: 'per second',
      better: 'more',
    },
    crr && {
      title: `CPU per connection, ${at(crr)}`,
      load: crr.name,
      figure: 'cpu',
      factor: 1,
      digits: 1,
      unit: 'µs',
      better: 'less',
    },
    crr && {
      title: `99th percentile, ${at(crr)}`,
      load: crr.name,
      figure: 'p99',
      factor: 1,
      digits: 0,
      unit: 'µs',
      better: 'less',
    },
    rr && {
      title: 'Round trip, median',
      load: rr.name,
      figure: 'p50',
      factor: 1,
      digits: 0,
      unit: 'µs',
      better: 'less',
    },
    tx && { title: `Guest to host, ${streams(tx)}`, load: tx.name, ...gigabits },
    rx && { title: `Host to guest, ${streams(rx)}`, load: rx.name, ...gigabits },
  ];
  return cards.map((card) => card && barCard(report, card));
}

type Named = CompareReport['loads'][number];

/** The load of a mode whose number of flows comes nearest. */
function nearest(report: CompareReport, mode: LoadMode, flows: number): Named | undefined {
  const distance = (load: Named): number => Math.abs(load.flows - flows);
  return report.loads.filter((load) => load.mode === mode).toSorted((a, b) => distance(a) - distance(b))[0];
}

function bulkTitle({ mode, flows }: Named): string {
  return `${mode === 'bulk-tx' ? 'Guest to host' : 'Host to guest'}, ${flows} stream${flows === 1 ? '' : 's'}`;
}

function bulkLoads({ loads }: CompareReport): readonly Named[] {
  return loads.filter(({ mode }) => mode === 'bulk-tx' || mode === 'bulk-rx');
}

function bulk(report: CompareReport): readonly (Html | undefined)[] {
  return bulkLoads(report).flatMap((load) => [
    barCard(report, {
      title: bulkTitle(load),
      load: load.name,
      figure: 'rate',
      factor: 1e-9,
      digits: 1,
      unit: 'Gbit/s',
      better: 'more',
    }),
    barCard(report, {
      title: `${bulkTitle(load)}: CPU per GB`,
      load: load.name,
      figure: 'cpu',
      factor: 1,
      digits: 0,
      unit: 'ms',
      better: 'less',
    }),
  ]);
}

function fairness(report: CompareReport): readonly (Html | undefined)[] {
  return bulkLoads(report).map((load) => fairnessCard(report, load.name, bulkTitle(load)));
}

function beside(report: CompareReport): readonly (Html | undefined)[] {
  const change = { figure: 'change', factor: 100, digits: 1, unit: '%', better: 'near zero' } as const;
  const crr = nearest(report, 'crr', 8);
  const memory = { figure: 'resident', factor: 1 / 2 ** 20, digits: 0, unit: 'MiB resident', better: 'less' } as const;
  return [
    ...report.loads.flatMap((load) => {
      if (load.mode === 'stall')
        return [
          barCard(report, { title: `Rate beside ${load.stalled} unanswered connects`, load: load.name, ...change }),
        ];
      if (load.mode !== 'idle') return [];
      return [
        barCard(report, { title: `Rate beside ${load.idle} idle connections`, load: load.name, ...change }),
        barCard(report, {
          title: 'Memory of an idle connection',
          load: load.name,
          figure: 'bytesPerFlow',
          factor: 1,
          digits: 0,
          unit: 'bytes resident',
          better: 'less',
        }),
      ];
    }),
    crr && barCard(report, { title: `Memory, ${crr.flows} connections at a time`, load: crr.name, ...memory }),
  ];
}

function features(report: CompareReport): Html | undefined {
  const offers = report.contenders.flatMap((contender) => {
    const run = report.runs.find((each) => each.contender === contender.name && each.offered.length > 0);
    return run === undefined ? [] : [{ contender, offered: new Set(run.offered) }];
  });
  if (offers.length === 0) return undefined;
  const names = [...new Set(offers.flatMap(({ offered }) => [...offered]))];
  const head = offers.map(({ contender }) => html`<th scope="col">${contender.label}</th>`);
  const rows = names.map((name) => {
    const cells = offers.map(({ offered }) =>
      offered.has(name) ? html`<td class="yes">●</td>` : html`<td class="no">–</td>`,
    );
    return html`<tr>
      <th scope="row">${name}</th>
      ${cells}
    </tr>`;
  });
  return html`<div class="scroll">
    <table class="features">
      <thead>
        <tr>
          <th></th>
          ${head}
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>
  </div>`;
}

function figureTable({ title, columns, rows, notes }: ResultTable): Html {
  const head = columns.map(({ name, align }) => html`<th scope="col" class="${align}">${name}</th>`);
  const body = rows.map((row) => {
    const cells = row.map(({ value, spread }, n) => {
      const range = spread === undefined ? undefined : html`<small>${spread}</small>`;
      return html`<td class="${columns[n]?.align ?? 'left'}">${value}${range}</td>`;
    });
    return html`<tr>
      ${cells}
    </tr>`;
  });
  const lines = notes.map((note) => html`<p class="note">${note}</p>`);
  return html`<details>
    <summary>${title}</summary>
    <div class="scroll">
      <table>
        <thead>
          <tr>
            ${head}
          </tr>
        </thead>
        <tbody>
          ${body}
        </tbody>
      </table>
    </div>
    ${lines}
  </details>`;
}

function method(report: CompareReport): Html {
  const rows = report.contenders.map(
    ({ label, version, mtu, command }) =>
      html`<dt>${label}</dt>
        <dd>${version}, MTU ${mtu}<br /><code>${command}</code></dd>`,
  );
  return html`<dl>
    <dt>Machine</dt>
    <dd>${machineLine(report.machine)}</dd>
    <dt>Command</dt>
    <dd><code>${report.command}</code></dd>
    ${rows}
  </dl>`;
}
