/** The page: HTML that a parser has nothing to say against, with all figures in it and nothing from elsewhere. */
import { parse } from 'parse5';
import type { DefaultTreeAdapterTypes, ParserError } from 'parse5';
import { beforeAll, describe, expect, it } from 'vitest';
import { benchCompare } from '../../../bench/compare/bench.js';
import type { LineChart } from '../../../bench/compare/charts.js';
import { embeddedJson, html } from '../../../bench/compare/html.js';
import { comparePage } from '../../../bench/compare/page.js';
import type { CompareReport } from '../../../bench/compare/result.js';
import { fakeMeasurement, fakeOptions, fakeReport } from './fakes.js';

type Node = DefaultTreeAdapterTypes.Node;
type Element = DefaultTreeAdapterTypes.Element;

let report: CompareReport;
let page: string;
let elements: Element[];
const errors: ParserError[] = [];

function elementsIn(node: Node): Element[] {
  const children = 'childNodes' in node ? node.childNodes.flatMap(elementsIn) : [];
  return 'tagName' in node ? [node, ...children] : children;
}

function textOf(node: Node): string {
  if ('value' in node) return node.value;
  return 'childNodes' in node ? node.childNodes.map(textOf).join('') : '';
}

function attribute(element: Element, name: string): string | undefined {
  return element.attrs.find((each) => each.name === name)?.value;
}

function json(id: string): unknown {
  const script = elements.find((element) => attribute(element, 'id') === id);
  return JSON.parse(script === undefined ? 'null' : textOf(script));
}

beforeAll(async () => {
  report = await fakeReport();
  page = comparePage(report);
  elements = elementsIn(parse(page, { onParseError: (error) => errors.push(error) }));
});

describe('the page', () => {
  it('parses without an error', () => {
    expect(errors).toEqual([]);
  });

  it('needs nothing from elsewhere', () => {
    const outside = elements.filter((element) => element.attrs.some(({ name }) => name === 'src' || name === 'href'));
    expect(outside).toEqual([]);
    expect(elements.map(({ tagName }) => tagName)).not.toContain('link');
    expect(page).not.toMatch(/@import|url\(/);
  });

  it('holds the report, but for its runs', () => {
    const { runs: _runs, ...figures } = JSON.parse(JSON.stringify(report)) as CompareReport;
    expect(json('report')).toEqual(figures);
  });

  it('holds a place for every chart, and a chart for every place', () => {
    const ids = (json('charts') as LineChart[]).map(({ id }) => id);
    const places = elements
      .filter((element) => attribute(element, 'role') === 'img')
      .map((element) => attribute(element, 'id'));
    expect(places).toEqual(ids);
    expect(ids).toEqual([
      'connections-rate',
      'connections-p99',
      'connections-cpu',
      'connections-interrupts',
      'latency-crr-1',
      'latency-crr-8',
      'latency-rr-1',
      'latency-udp-rr-1',
      'workers-crr-8-rate',
      'workers-crr-8-cpu',
      'workers-bulk-tx-2-rate',
      'workers-bulk-rx-2-rate',
    ]);
  });

  it('shows names as they are, whatever is in them', () => {
    const buttons = elements.filter((element) => attribute(element, 'data-toggle') !== undefined);
    expect(buttons.map(textOf)).toEqual(report.contenders.map(({ label }) => label));
    expect(buttons.map((element) => attribute(element, 'data-toggle'))).toEqual(
      report.contenders.map(({ name }) => name),
    );
  });

  it('shows the medians in bars, the best network marked', () => {
    const card = elements.find(
      (element) => attribute(element, 'class') === 'card' && textOf(element).includes('Connections, 8 at a time'),
    );
    const values = elementsIn(card!).filter((element) => attribute(element, 'class')?.startsWith('value'));
    const rates = report.cells.filter(({ load }) => load === 'crr-8').map(({ figures }) => figures.rate?.median ?? 0);
    expect(values.map(textOf)).toEqual(rates.map((rate) => rate.toLocaleString('en-US', { maximumFractionDigits: 0 })));
    expect(values.map((value) => attribute(value, 'class'))).toEqual(['value', 'value', 'value best', 'value']);
  });

  it('has every section, and says how it was measured', () => {
    const headings = elements.filter(({ tagName }) => tagName === 'h2').map(textOf);
    expect(headings).toHaveLength(12);
    for (const { command } of report.contenders) expect(textOf(elements[0]!)).toContain(command);
    expect(textOf(elements[0]!)).toContain(report.command);
  });

  it('shows who failed under a load without a bar', async () => {
    const failing = await benchCompare(fakeOptions(), {}, undefined, async ({ info }, load) => {
      if (info.product === 'slipway' && load.mode === 'udp-rr') throw new Error('no echo came back');
      return fakeMeasurement(load);
    });
    const cards = elementsIn(parse(comparePage(failing))).filter(
      (element) => attribute(element, 'class') === 'card' && textOf(element).includes('CPU per exchange'),
    );
    expect(cards).toHaveLength(1);
    const rows = elementsIn(cards[0]!).filter((element) => attribute(element, 'class') === 'row');
    expect(rows.filter((row) => textOf(row).includes('failed')).map((row) => attribute(row, 'title'))).toEqual([
      'Slipway epoll: no echo came back',
      'Slipway epoll, 2 workers: no echo came back',
    ]);
    const bars = rows.filter((row) =>
      elementsIn(row).some((element) => attribute(element, 'class')?.startsWith('bar') === true),
    );
    expect(bars.map((row) => attribute(row, 'data-contender'))).toEqual(['passt <old> & "odd"', 'direct']);
  });

  it('leaves out what was not measured', async () => {
    const small = comparePage(await fakeReport({ loads: report.loads.slice(0, 1) }));
    const headings = elementsIn(parse(small)).filter(({ tagName }) => tagName === 'h2');
    expect(headings.map(textOf)).toEqual([
      'At a glance',
      'How long a connection takes',
      'More workers',
      'Beside others',
      'What the guest is offered',
      'All figures',
      'How it was measured',
    ]);
  });
});

describe('charts', () => {
  it('lie within their range, each value between its lowest and highest', () => {
    for (const { series, yRange, x } of json('charts') as LineChart[]) {
      for (const { y, low, high } of series) {
        expect([y.length, low.length, high.length]).toEqual([x.length, x.length, x.length]);
        for (const [n, value] of y.entries()) {
          if (value === null) continue;
          expect(low[n]).toBeLessThanOrEqual(value);
          expect(high[n]).toBeGreaterThanOrEqual(value);
          expect(low[n]).toBeGreaterThanOrEqual(yRange[0]);
          expect(high[n]).toBeLessThanOrEqual(yRange[1]);
        }
      }
    }
  });

  it('draw ours with one and with more workers as one line against the workers', () => {
    const chart = (json('charts') as LineChart[]).find(({ id }) => id === 'workers-crr-8-rate');
    const rate = (name: string) =>
      report.cells.find((cell) => cell.contender === name && cell.load === 'crr-8')?.figures.rate?.median;
    expect(chart?.series.map(({ y }) => y)).toEqual([
      [rate('slipway-epoll-1'), rate('slipway-epoll-2')],
      [rate('passt <old> & "odd"'), null],
      [rate('direct'), null],
    ]);
  });
});

describe('html', () => {
  it('escapes what is put in, but not HTML', () => {
    expect(html`<p title="${'"'}">${'<b>'}${html`<br />`}${['&', undefined]}</p>`.text).toBe(
      '<p title="&quot;">&lt;b&gt;<br />&amp;</p>',
    );
  });

  it('keeps JSON from ending its script', () => {
    const text = embeddedJson({ a: '</script>' }).text;
    expect(text).not.toContain('<');
    expect(JSON.parse(text)).toEqual({ a: '</script>' });
  });
});
