import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CTRL_ANNOUNCE,
  CTRL_GUEST_OFFLOADS,
  CTRL_MAC,
  CTRL_MQ,
  CTRL_RX,
  CTRL_VLAN,
  type ControlState,
  executeControl,
  MQ_VQ_PAIRS_SET,
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
} from '../../device/controlQueue.js';
import { NET_STATE_WORDS, NetState } from '../../device/netState.js';

/** Executes a command on a device of 4 pairs that uses 2; gives the answer and the pairs in use then. */
function execute(command: readonly number[], change: Partial<ControlState> = {}, length = command.length): number[] {
  const state = {
    maxPairs: 4,
    multiqueue: true,
    activePairs: 2,
    net: new NetState(new Int32Array(NET_STATE_WORDS)),
    ...change,
  };
  return [executeControl(Uint8Array.from(command), length, state), state.activePairs];
}

const REFUSED = [VIRTIO_NET_ERR, 2];

describe('§5.1.6.5.6 VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET', () => {
  it.each([1, 2, 3, 4])('%i of 4 pairs', (pairs) => {
    expect(execute([CTRL_MQ, MQ_VQ_PAIRS_SET, pairs, 0])).toEqual([VIRTIO_NET_OK, pairs]);
  });

  it.each([0, 5, 0x0100, 0x8000, 0x8001, 0xffff])('refuses %i', (pairs) => {
    expect(execute([CTRL_MQ, MQ_VQ_PAIRS_SET, pairs & 0xff, pairs >> 8])).toEqual(REFUSED);
  });

  it('reads virtqueue_pairs as le16', () => {
    const changed = execute([CTRL_MQ, MQ_VQ_PAIRS_SET, 0x02, 0x01], { maxPairs: 0x8000 });
    expect(changed).toEqual([VIRTIO_NET_OK, 0x102]);
  });

  it.each([
    ['no data', []],
    ['one byte', [1]],
    ['three bytes', [1, 0, 0]],
  ])('refuses %s', (_, data) => {
    expect(execute([CTRL_MQ, MQ_VQ_PAIRS_SET, ...data])).toEqual(REFUSED);
  });

  it('goes by the length of the command, not by what lies behind it', () => {
    expect(execute([CTRL_MQ, MQ_VQ_PAIRS_SET, 1, 0], {}, 3)).toEqual(REFUSED);
    expect(execute([CTRL_MQ, MQ_VQ_PAIRS_SET, 1, 0], {}, 5)).toEqual(REFUSED);
  });

  it('refuses it where MQ was not negotiated', () => {
    expect(execute([CTRL_MQ, MQ_VQ_PAIRS_SET, 1, 0], { multiqueue: false })).toEqual(REFUSED);
  });

  it.each([1, 2])('§5.1.6.5.5 refuses command %i of the class: RSS and HASH_REPORT are not offered', (command) => {
    expect(execute([CTRL_MQ, command, 1, 0])).toEqual(REFUSED);
  });
});

describe('§5.1.6.5 classes of features that were not negotiated', () => {
  it.each([
    ['§5.1.6.5.1 promiscuous mode', [CTRL_RX, 0, 1]],
    ['§5.1.6.5.1 no broadcast', [CTRL_RX, 5, 1]],
    ['§5.1.6.5.2 MAC_TABLE_SET', [CTRL_MAC, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
    ['§5.1.6.5.2 MAC_ADDR_SET', [CTRL_MAC, 1, 2, 0, 0, 0, 0, 1]],
    ['§5.1.6.5.3 VLAN_ADD', [CTRL_VLAN, 0, 1, 0]],
    ['§5.1.6.5.3 VLAN_DEL', [CTRL_VLAN, 1, 1, 0]],
    ['§5.1.6.5.4 ANNOUNCE_ACK', [CTRL_ANNOUNCE, 0]],
    ['§5.1.6.5.8 GUEST_OFFLOADS_SET', [CTRL_GUEST_OFFLOADS, 0, 0, 0, 0, 0, 0, 0, 0, 0]],
  ])('%s', (_, command) => {
    expect(execute(command)).toEqual(REFUSED);
  });
});

describe('any command', () => {
  it('is refused without effect unless it is VQ_PAIRS_SET of its size and range', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 12 }), fc.boolean(), (command, likely) => {
        if (likely) command.set([CTRL_MQ, MQ_VQ_PAIRS_SET].slice(0, command.length));
        const [kind, name, low, high] = command;
        const valid = command.length === 4 && kind === 4 && name === 0 && high === 0 && low! >= 1 && low! <= 4;
        expect(execute([...command])).toEqual(valid ? [VIRTIO_NET_OK, low] : REFUSED);
      }),
      { numRuns: 500 },
    );
  });

  it('shorter than class and command is refused', () => {
    expect(execute([])).toEqual(REFUSED);
    expect(execute([CTRL_MQ])).toEqual(REFUSED);
  });
});
