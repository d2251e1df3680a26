/** What a contender looks like, everywhere on the page. */
import type { CompareReport, ContenderInfo } from './result.js';

export interface Style {
  /** A custom property of page/page.css. */
  readonly colour: string;
  /** Lines of what runs several workers, or has no network at all, are dashed. */
  readonly dash: boolean;
}

/** By product: the colours of its families in turn. Ours with several workers look like ours with one, but dashed. */
const COLOURS: Readonly<Record<ContenderInfo['product'], readonly string[]>> = {
  slipway: ['--blue', '--aqua', '--violet'],
  passt: ['--orange', '--yellow', '--red'],
  peer: ['--magenta', '--green', '--brown'],
  direct: ['--grey'],
};

export function styleOf({ contenders }: CompareReport, name: string): Style {
  const contender = contenders.find((each) => each.name === name);
  if (contender === undefined) throw new RangeError(`no contender ${name}`);
  const { product, workers } = contender;
  const families = [...new Set(contenders.filter((each) => each.product === product).map(familyOf))];
  const colours = COLOURS[product];
  return {
    colour: colours[families.indexOf(familyOf(contender)) % colours.length] ?? '--grey',
    dash: product === 'direct' || (workers ?? 1) > 1,
  };
}

/** Contenders that differ in their number of workers only. */
export function familyOf({ name, engine }: ContenderInfo): string {
  return engine ?? name;
}
