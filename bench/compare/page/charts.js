// @ts-check
/* Draws the line charts of the page's data with uPlot, in the colours of the style sheet; hides and shows contenders. */

const FONT = '12px system-ui, sans-serif';

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function format(value, digits) {
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Short enough for an axis. */
function short(value) {
  return value >= 10_000 ? `${value / 1_000}k` : String(Number(value.toPrecision(6)));
}

(() => {
  const charts = JSON.parse(document.getElementById('charts').textContent);
  const hidden = new Set();
  const drawn = new Map();

  /** 1, 2, 5, 10 … within the range. */
  function logSplits([low, high]) {
    const splits = [];
    for (let decade = 10 ** Math.floor(Math.log10(low)); decade <= high; decade *= 10)
      for (const step of [1, 2, 5]) if (decade * step >= low && decade * step <= high) splits.push(decade * step);
    return splits;
  }

  /** Three lines of uPlot's for each contender: lowest, highest, and the median that is seen. */
  function linesOf(chart) {
    const grain = chart.x.length > 12;
    return chart.series.flatMap((series) => {
      const show = !hidden.has(series.contender);
      const edge = { show, stroke: 'transparent', points: { show: false } };
      const stroke = colour(series.colour);
      const median = {
        show,
        label: series.label,
        stroke,
        width: 2.25,
        dash: series.dash ? [6, 4] : undefined,
        points: { show: !grain, size: 8, stroke, fill: stroke },
      };
      return [edge, edge, median];
    });
  }

  function optionsOf(chart, width, height) {
    const axis = {
      stroke: colour('--ink-2'),
      font: FONT,
      ticks: { show: false },
      grid: { stroke: colour('--line'), width: 1 },
    };
    const log = chart.yScale === 'log';
    const [first, last] = [chart.x[0], chart.x.at(-1)];
    const margin = chart.x.length > 12 ? 0 : 0.06 * (last - first);
    return {
      width,
      height,
      padding: [8, 24, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { setScale: false } },
      scales: {
        x: { time: false, range: [first - margin, last + margin] },
        y: { distr: log ? 3 : 1, range: chart.yRange },
      },
      axes: [
        {
          ...axis,
          size: 26,
          gap: 4,
          label: chart.xLabel,
          labelSize: 20,
          labelFont: FONT,
          splits: chart.ticks.map(({ at }) => at),
          values: chart.ticks.map(({ label }) => label),
          grid: { ...axis.grid, show: chart.x.length > 12 },
        },
        {
          ...axis,
          size: 48,
          ...(log && { splits: () => logSplits(chart.yRange), filter: (_plot, splits) => splits }),
          values: (_plot, splits) => splits.map(short),
        },
      ],
      series: [{}, ...linesOf(chart)],
      bands: chart.series.map((series, n) => ({ series: [3 * n + 2, 3 * n + 1], fill: `${colour(series.colour)}26` })),
      plugins: [tooltip(chart)],
    };
  }

  /** What every contender has at the cursor's place, the largest first. */
  function tooltip(chart) {
    const box = document.createElement('div');
    box.className = 'tooltip';
    box.hidden = true;
    return {
      hooks: {
        init: (plot) => plot.over.append(box),
        setCursor: (plot) => {
          const { idx, left } = plot.cursor;
          box.hidden = idx === null || idx === undefined || left < 0;
          if (!box.hidden) fill(plot, idx, left);
        },
      },
    };

    function fill(plot, idx, left) {
      const rows = chart.series
        .filter((series) => !hidden.has(series.contender) && typeof series.y[idx] === 'number')
        .toSorted((a, b) => b.y[idx] - a.y[idx]);
      const head = document.createElement('b');
      head.textContent = `${chart.names[idx]}, ${chart.unit}`;
      box.replaceChildren(head, ...rows.map((series) => line(series, idx)));
      const right = left > plot.over.clientWidth / 2;
      box.style.left = right ? '' : `${left + 12}px`;
      box.style.right = right ? `${plot.over.clientWidth - left + 12}px` : '';
    }

    function line(series, idx) {
      const row = document.createElement('div');
      const mark = document.createElement('i');
      const value = document.createElement('span');
      mark.style.setProperty('--c', `var(${series.colour})`);
      value.textContent = format(series.y[idx], chart.digits);
      row.append(mark, series.label, value);
      return row;
    }
  }

  function draw(chart) {
    const place = document.getElementById(chart.id);
    drawn.get(chart.id)?.destroy();
    const data = [chart.x, ...chart.series.flatMap(({ low, high, y }) => [low, high, y])];
    drawn.set(chart.id, new uPlot(optionsOf(chart, place.clientWidth, place.clientHeight), data, place));
  }

  function drawAll() {
    for (const chart of charts) draw(chart);
  }

  for (const button of document.querySelectorAll('[data-toggle]')) {
    button.addEventListener('click', () => {
      const name = button.dataset.toggle;
      const shown = hidden.delete(name);
      if (!shown) hidden.add(name);
      button.setAttribute('aria-pressed', String(shown));
      for (const row of document.querySelectorAll('[data-contender]'))
        if (row.dataset.contender === name) row.hidden = !shown;
      drawAll();
    });
  }
  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries)
      drawn.get(target.id)?.setSize({ width: target.clientWidth, height: target.clientHeight });
  });
  for (const { id } of charts) resized.observe(document.getElementById(id));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
  drawAll();
})();
