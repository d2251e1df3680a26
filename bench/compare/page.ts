/** The comparison as one self-contained HTML page: style, library, data and figures are all in it. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { packageRoot } from '../../src/packageRoot.js';
import { connectionCharts, latencyCharts, workerCharts } from './charts.js';
import type { LineChart } from './charts.js';
import { Html, embeddedJson, html } from './html.js';
import { featureTable, figureTable, method } from './pageTables.js';
import { compareTables } from './report.js';
import type { CompareReport } from './result.js';
import { beside, bulk, fairness, glance, ratios, udp } from './sections.js';
import { styleOf } from './style.js';

/** @returns a whole HTML document, which needs nothing from elsewhere */
export function comparePage(report: CompareReport): string {
  const connections = connectionCharts(report);
  const crrLatency = latencyCharts(report, 'crr');
  const rrLatency = latencyCharts(report, 'rr');
  const udpLatency = latencyCharts(report, 'udp-rr');
  const workers = workerCharts(report);
  const charts = [connections, crrLatency, rrLatency, udpLatency, workers].flat();
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
        <header>
          ${heading(report)}
          <div class="tiles">${ratios(report)}</div>
        </header>
        <nav aria-label="Back ends">${legend(report)}</nav>
        <main>
          <noscript><p class="note">The curves need JavaScript; every figure is also in the tables below.</p></noscript>
          ${section('At a glance', 'Bars are medians over the rounds, the thin line is their range; the best network is set in bold.', glance(report))}
          ${section('Connections', 'Connect, a byte there, a byte back, close: M such connections going at once. Bands are the range of the rounds.', canvases(connections))}
          ${section('How long a connection takes', 'Read to the right for the slow ones: the curve at 99 % is what one in a hundred exceeds. All on one scale.', canvases(crrLatency, 'small'))}
          ${section('How long a request takes', 'A byte there and back over connections that stay open.', canvases(rrLatency, 'small'))}
          ${section('UDP', 'A datagram there and its echo back; one that is lost is sent anew. A back end without UDP has no figure.', [...udp(report), ...canvases(udpLatency, 'small')])}
          ${section('More workers', 'Each worker has a queue pair, and a thread of the driver, of its own; the CPUs are shared with driver and server.', canvases(workers))}
          ${section('Bulk', 'All the bytes that will go, and what they cost the network in CPU.', bulk(report))}
          ${section('Fairness between streams', 'Streams that share a network should share it evenly.', fairness(report))}
          ${section('Beside others', 'Four connections at a time: what changes when thousands lie idle beside them, or connects wait for an answer that never comes.', beside(report))}
          ${section('What the guest is offered', 'Features of virtio that the back end offers to its driver.', [featureTable(report)])}
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
      each, on ${machine.cores} × ${machine.cpu}, Linux ${machine.kernel}, downloads sent under
      ${settings.congestion ?? machine.congestion}. ${new Date(date).toUTCString()}.
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
