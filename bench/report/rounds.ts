/** The order of measurements: interleaved, so that what drifts on the machine hits all alike. */

/**
 * What to measure in one round: load by load, and each with all contenders one after the other. Each round begins with
 * another contender.
 * @param round counted from 0
 */
export function roundOrder<Load, Contender>(
  loads: readonly Load[],
  contenders: readonly Contender[],
  round: number,
): readonly (readonly [Load, Contender])[] {
  const turn = round % contenders.length;
  const rotated = [...contenders.slice(turn), ...contenders.slice(0, turn)];
  return loads.flatMap((load) => rotated.map((contender) => [load, contender] as const));
}
