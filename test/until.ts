/** Waiting in tests. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Polls until `probe` gives something else than false or undefined; a test's time limit ends a hang. */
export async function until<T>(probe: () => T | false | undefined): Promise<T> {
  for (;;) {
    const found = probe();
    if (found !== undefined && found !== false) return found;
    await sleep(1);
  }
}
