/** The page's tables. */
import { machineLine } from '../report/machine.js';
import type { ResultTable } from '../report/table.js';
import { html } from './html.js';
import type { Html } from './html.js';
import type { CompareReport } from './result.js';

/** Virtio features by back end. */
export function featureTable(report: CompareReport): Html | undefined {
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

/** All figures of one kind of load, folded. */
export function figureTable({ title, columns, rows, notes }: ResultTable): Html {
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

/** Machine, command, and how each contender was started. */
export function method(report: CompareReport): Html {
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
