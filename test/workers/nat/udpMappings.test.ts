/** Flows of one guest port find each other, whatever comes and goes. */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { FLOW_WORDS, GUEST_PORT, KEY, SOURCE, STATE, UDP_KEY, UDP_OPEN } from '../../../workers/flow.js';
import { UdpMappings } from '../../../workers/nat/udpMappings.js';
import { Shard } from '../../../workers/shard.js';

const FLOWS = 16;
const SEED = 99;
const SOURCE_ADDRESS = 0x0a00020f;

const step = fc.oneof(
  fc.record({ act: fc.constant('join' as const), port: fc.nat({ max: 3 }), device: fc.nat({ max: 1 }) }),
  fc.record({ act: fc.constant('leave' as const), flow: fc.nat({ max: FLOWS - 1 }) }),
  fc.record({ act: fc.constant('begin anew' as const) }),
);

it('finds a flow of a mapping while there is one, and tells who was the last', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const shard = new Shard(new Int32Array(FLOWS * FLOW_WORDS), SEED, new Int32Array(1));
      const { records } = shard;
      let mappings = new UdpMappings(shard, SEED);
      const members = new Map<number, string>();
      let wrong = 0;
      for (const each of steps) {
        if (each.act === 'begin anew') mappings = new UdpMappings(shard, SEED);
        else if (each.act === 'join') {
          const flow = shard.allocate();
          if (flow < 0) continue;
          const f = flow * FLOW_WORDS;
          records[f + STATE] = UDP_OPEN;
          records[f + SOURCE] = SOURCE_ADDRESS;
          records[f + GUEST_PORT] = each.port << 16;
          records[f + KEY] = each.device | UDP_KEY;
          mappings.join(flow);
          members.set(flow, `${each.port} ${each.device}`);
        } else if (members.has(each.flow)) {
          const name = members.get(each.flow)!;
          members.delete(each.flow);
          wrong += mappings.leave(each.flow) === [...members.values()].includes(name) ? 1 : 0;
          records[each.flow * FLOW_WORDS + STATE] = 0;
          shard.release(each.flow);
        }
        for (const port of [0, 1, 2, 3]) {
          for (const device of [0, 1]) {
            const found = mappings.find(SOURCE_ADDRESS, port << 16, device | UDP_KEY);
            const name = `${port} ${device}`;
            const there = [...members.values()].includes(name);
            wrong += members.get(found) === (there ? name : undefined) ? 0 : 1;
          }
        }
      }
      expect(wrong).toBe(0);
    }),
    { numRuns: 300 },
  );
});
