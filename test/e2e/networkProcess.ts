/**
 * A network in a process of its own, for tests of how it ends and of what it does without descriptors.
 *
 *     node networkProcess.js PATH OPTIONS          options of the network, JSON
 *
 * Prints a line once it listens, then obeys lines of its standard input: `stats`, `kill N`, `close`, `exit`, `throw`.
 */
import { createInterface } from 'node:readline';
import { createLogger } from '../../src/log.js';
import { Network } from '../../src/network.js';
import type { NetworkOptions } from '../../src/network.js';
import { ENGINE } from '../engineUnderTest.js';

const [path = '', options = '{}'] = process.argv.slice(2);
const network = await Network.create({
  engine: ENGINE,
  allowHostLoopback: true,
  log: createLogger('silent'),
  ...(JSON.parse(options) as NetworkOptions),
});
await network.serve({ path });
process.stdout.write('listening\n');
const commands = createInterface(process.stdin);
commands.on('line', (line) => {
  const [command, argument] = line.split(' ');
  if (command === 'stats') process.stdout.write(`${JSON.stringify(network.stats())}\n`);
  else if (command === 'kill') void network.injectFault(Number(argument));
  else if (command === 'exit') process.exit(3);
  else if (command === 'throw') throw new Error('uncaught, as the test wants it');
  else if (command === 'close') {
    commands.close();
    process.stdin.destroy();
    void network.close();
  }
});
