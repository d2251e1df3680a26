/** The page's bars and strips: plain HTML, one row for each contender. */
import { formatNumber } from '../report/table.js';
import type { Summary } from '../report/statistics.js';
import { html } from './html.js';
import type { Html } from './html.js';
import { findCell } from './result.js';
import type { CompareReport, ContenderInfo, FigureName } from './result.js';
import { styleOf } from './style.js';

/** One figure under one load, for all contenders. */
export interface BarCard {
  readonly title: string;
  readonly unit: string;
  readonly load: string;
  readonly figure: FigureName;
  readonly factor: number;
  readonly digits: number;
  /** Which end is good; changes are shown from a line at 0. */
  readonly better: 'more' | 'less' | 'near zero';
}

interface Row {
  readonly contender: ContenderInfo;
  readonly summary: Summary;
}

/** Bars from 0 to the median, with the range of the rounds; the best network is marked. Nothing if nobody has the figure. */
export function barCard(report: CompareReport, card: BarCard): Html | undefined {
  const rows = report.contenders.flatMap((contender): Row[] => {
    const summary = findCell(report, contender.name, card.load)?.figures[card.figure];
    return summary === undefined ? [] : [{ contender, summary: scaled(summary, card.factor) }];
  });
  if (rows.length === 0) return undefined;
  const low = Math.min(0, ...rows.map(({ summary }) => summary.min));
  const high = Math.max(0, ...rows.map(({ summary }) => summary.max));
  const best = bestOf(rows, card.better);
  const at = (value: number): string => ((100 * (value - low)) / (high - low || 1)).toFixed(2);
  const bars = rows.map(({ contender, summary: { median, min, max, n } }) => {
    const figure = `${signed(median, card)}${card.unit === '%' ? ' %' : ''}`;
    const range =
      n > 1 ? `${formatNumber(min, card.digits)} – ${formatNumber(max, card.digits)} in ${n} rounds` : 'one round';
    const [from, to] = [Math.min(0, median), Math.max(0, median)];
    return html`<div class="row" data-contender="${contender.name}" title="${contender.label}: ${figure}, ${range}">
      <span class="name">${contender.label}</span>
      <span class="track"
        ><i
          class="bar"
          style="left:${at(from)}%;right:${100 - Number(at(to))}%;--c:var(${styleOf(report, contender.name).colour})"
        ></i
        ><i class="range" style="left:${at(min)}%;right:${100 - Number(at(max))}%"></i
      ></span>
      <span class="value${contender === best ? ' best' : ''}">${figure}</span>
    </div>`;
  });
  return html`<figure class="card">
    <figcaption><b>${card.title}</b><span>${caption(card)}</span></figcaption>
    ${bars}
  </figure>`;
}

/** Each stream of each round, as a share of its round's mean: a fair network has all its dots at 1. */
export function fairnessCard(report: CompareReport, load: string, title: string): Html | undefined {
  const rows = report.contenders.flatMap((contender) => {
    const cell = findCell(report, contender.name, load);
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

/** The best network; the loopback without one is no contestant. */
function bestOf(rows: readonly Row[], better: BarCard['better']): ContenderInfo | undefined {
  const badness = ({ summary: { median } }: Row): number =>
    better === 'more' ? -median : better === 'less' ? median : Math.abs(median);
  const networks = rows.filter(({ contender }) => contender.product !== 'direct');
  return networks.length < 2 ? undefined : networks.toSorted((a, b) => badness(a) - badness(b))[0]?.contender;
}

function signed(value: number, { better, digits }: BarCard): string {
  return `${better === 'near zero' && value > 0 ? '+' : ''}${formatNumber(value, digits)}`;
}

function caption({ unit, better }: BarCard): string {
  return better === 'near zero' ? 'nearer to 0 is better' : `${unit}, ${better} is better`;
}
