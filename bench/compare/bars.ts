/** The page's bars and strips: plain HTML, one row for each contender. */
import { formatNumber } from '../report/table.js';
import type { Summary } from '../report/statistics.js';
import { html } from './html.js';
import type { Html } from './html.js';
import type { Load } from './loads.js';
import type { Measure } from './measures.js';
import { findCell, findFailure } from './result.js';
import type { CompareReport, ContenderInfo } from './result.js';
import { styleOf } from './style.js';

interface Row {
  readonly contender: ContenderInfo;
  readonly summary: Summary;
  /** Whether the rounds' rates vary little. */
  readonly settled: boolean;
}

/** Bars from 0 to the median, with the range of the rounds; the best network is marked. Nothing if nobody has the figure. */
export function barCard(report: CompareReport, title: string, load: Load, measure: Measure): Html | undefined {
  const rows = rowsOf(report, load, measure);
  if (rows.length === 0) return undefined;
  const low = Math.min(0, ...rows.map(({ summary }) => summary.min));
  const high = Math.max(0, ...rows.map(({ summary }) => summary.max));
  const networks = rows.filter(({ contender }) => contender.product !== 'direct');
  const best = networks.length > 1 ? bestOf(networks, measure) : undefined;
  const at = (value: number): string => ((100 * (value - low)) / (high - low || 1)).toFixed(2);
  const bars = rows.map(({ contender, summary: { median, min, max, n } }) => {
    const figure = `${signed(median, measure)}${measure.unit === '%' ? ' %' : ''}`;
    const range =
      n > 1
        ? `${formatNumber(min, measure.digits)} – ${formatNumber(max, measure.digits)} in ${n} rounds`
        : 'one round';
    const style = styleOf(report, contender.name);
    const [from, to] = [Math.min(0, median), Math.max(0, median)];
    return html`<div class="row" data-contender="${contender.name}" title="${contender.label}: ${figure}, ${range}">
      <span class="name">${contender.label}</span>
      <span class="track"
        ><i
          class="bar${style.dash ? ' dash' : ''}"
          style="left:${at(from)}%;right:${100 - Number(at(to))}%;--c:var(${style.colour})"
        ></i
        ><i class="range" style="left:${at(min)}%;right:${100 - Number(at(max))}%"></i
      ></span>
      <span class="value${contender === best?.contender ? ' best' : ''}">${figure}</span>
    </div>`;
  });
  return html`<figure class="card">
    <figcaption><b>${title}</b><span>${caption(measure)}</span></figcaption>
    ${bars}${failedRows(report, load)}
  </figure>`;
}

/** Those that finished no run: no bar, which isn't a bar of 0. */
function failedRows(report: CompareReport, load: Load): readonly Html[] {
  return report.contenders.flatMap(({ name, label }) => {
    const failure = findFailure(report, name, load.name);
    if (failure === undefined || findCell(report, name, load.name) !== undefined) return [];
    return [
      html`<div class="row" data-contender="${name}" title="${label}: ${failure.message}">
        <span class="name">${label}</span><span class="track"></span><span class="value">failed</span>
      </div>`,
    ];
  });
}

/**
 * How ours with one worker compares with the best of the peers, as a factor. Nothing without either.
 * @param what completes "1.5 ×"
 */
export function ratioTile(report: CompareReport, what: string, load: Load, measure: Measure): Html | undefined {
  const rows = rowsOf(report, load, measure);
  const ours = bestOf(
    rows.filter(({ contender }) => contender.product === 'slipway' && contender.workers === 1),
    measure,
  );
  const peer = bestOf(
    rows.filter(({ contender }) => contender.product === 'passt' || contender.product === 'peer'),
    measure,
  );
  if (ours === undefined || peer === undefined || peer.summary.median === 0) return undefined;
  const ratio = ours.summary.median / peer.summary.median;
  const good = measure.better === 'more' ? ratio >= 1 : ratio <= 1;
  const figure = ({ summary, settled }: Row): string =>
    `${formatNumber(summary.median, measure.digits)} ${measure.unit}${settled ? '' : ' (not settled)'}`;
  return html`<div class="tile ${good ? 'good' : 'bad'}">
    <b>${formatNumber(ratio, 2)}<small>×</small></b>
    <p>${what} of ${peer.contender.label}</p>
    <p class="note">
      ${ours.contender.label} ${figure(ours)}, ${peer.contender.label} ${figure(peer)}; ${measure.better} is better
    </p>
  </div>`;
}

/** Each stream of each round, as a share of its round's mean: a fair network has all its dots at 1. */
export function fairnessCard(report: CompareReport, title: string, load: Load): Html | undefined {
  const rows = report.contenders.flatMap((contender) => {
    const cell = findCell(report, contender.name, load.name);
    const shares = (cell?.streams ?? []).flatMap(sharesOfMean);
    return cell?.figures.unfairness === undefined ? [] : [{ contender, shares, spread: cell.figures.unfairness }];
  });
  if (rows.length === 0) return undefined;
  const highest = Math.max(2, ...rows.flatMap(({ shares }) => shares));
  const at = (share: number): string => ((100 * share) / highest).toFixed(2);
  const strips = rows.map(({ contender, shares, spread }) => {
    const figure = `${formatNumber(100 * spread.median, 1)} %`;
    const dots = shares.map((share) => html`<i class="dot" style="left:${at(share)}%"></i>`);
    return html`<div
      class="row"
      data-contender="${contender.name}"
      title="${contender.label}: standard deviation ${figure} of the mean"
    >
      <span class="name">${contender.label}</span>
      <span class="track strip" style="--c:var(${styleOf(report, contender.name).colour})"
        ><i class="mean" style="left:${at(1)}%"></i>${dots}</span
      >
      <span class="value">${figure}</span>
    </div>`;
  });
  return html`<figure class="card">
    <figcaption>
      <b>${title}</b><span>a dot is a stream in a round; line: the mean; right: standard deviation</span>
    </figcaption>
    ${strips}
  </figure>`;
}

function sharesOfMean(streams: readonly number[]): readonly number[] {
  const mean = streams.reduce((sum, rate) => sum + rate, 0) / streams.length;
  return mean > 0 ? streams.map((rate) => rate / mean) : [];
}

function scaled(summary: Summary, factor: number): Summary {
  const { median, min, max } = summary;
  return { ...summary, median: median * factor, min: min * factor, max: max * factor };
}

/** The best of some; undefined of none. */
function bestOf(rows: readonly Row[], { better }: Measure): Row | undefined {
  const badness = ({ summary: { median } }: Row): number =>
    better === 'more' ? -median : better === 'less' ? median : Math.abs(median);
  return rows.toSorted((a, b) => badness(a) - badness(b))[0];
}

function rowsOf(report: CompareReport, load: Load, { figure, factor }: Measure): readonly Row[] {
  return report.contenders.flatMap((contender) => {
    const cell = findCell(report, contender.name, load.name);
    const summary = cell?.figures[figure];
    return cell === undefined || summary === undefined
      ? []
      : [{ contender, summary: scaled(summary, factor), settled: cell.settled }];
  });
}

function signed(value: number, { better, digits }: Measure): string {
  const figure = formatNumber(value, digits).replace(/^-([0.]+)$/, '$1');
  return better === 'near zero' && value > 0 ? `+${figure}` : figure;
}

function caption({ unit, better }: Measure): string {
  return better === 'near zero' ? 'nearer to 0 is better' : `${unit}, ${better} is better`;
}
