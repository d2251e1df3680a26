import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DEVICE_DEFAULTS, DriverDevice } from '../../../bench/driver/device.js';
import { acceptFeatures, featureNames } from '../../../bench/driver/features.js';
import { FrontEnd } from '../../../bench/driver/frontEnd.js';
import { GUEST_DEFAULTS } from '../../../bench/driver/loadDriver.js';
import { DEVICE_FEATURES, VHOST_USER_F_PROTOCOL_FEATURES } from '../../../device/features.js';
import { addon } from '../../../src/native/addon.js';
import { RX_BUFFER } from './peerNetwork.js';
import { PeerServer } from './peerServer.js';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-frontend-'));
  path = join(folder, 'socket');
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('bring-up', () => {
  test('takes every feature both sides know, reads the configuration space, starts all queues', async () => {
    const server = new PeerServer(path, { pairs: 2, mtu: 9000 });
    const device = await DriverDevice.open(FrontEnd.connect(path), {
      ...DEVICE_DEFAULTS,
      pairs: 2,
      rxBufferSize: RX_BUFFER,
    });
    expect(featureNames(device.negotiated.features)).toEqual(
      expect.arrayContaining(['CSUM', 'GUEST_TSO4', 'HOST_TSO4', 'MRG_RXBUF', 'MQ', 'EVENT_IDX', 'VERSION_1']),
    );
    expect(device.config).toEqual({ mac: GUEST_DEFAULTS.mac, maxPairs: 2, mtu: 9000 });
    expect(await device.frontEnd.stopQueue(0)).toBe(0);
    expect(device.frontEnd.isDisconnected()).toBe(false);
    await server.close();
    expect(device.frontEnd.isDisconnected()).toBe(true);
    device.close();
  });

  test('the back end in client mode: the front end listens', async () => {
    const listening = FrontEnd.listen(path);
    await using _server = new PeerServer(path, { pairs: 1, mode: 'client' });
    const device = await DriverDevice.open(await listening, DEVICE_DEFAULTS);
    expect(device.config?.mac).toEqual(GUEST_DEFAULTS.mac);
    device.close();
  });

  test('more queue pairs than the back end has are refused in words', async () => {
    await using _server = new PeerServer(path, { pairs: 2 });
    await expect(DriverDevice.open(FrontEnd.connect(path), { ...DEVICE_DEFAULTS, pairs: 3 })).rejects.toThrow(
      '3 queue pairs are wanted, the back end has 2',
    );
  });

  test('a socket where nobody listens', () => {
    expect(() => FrontEnd.connect(path)).toThrow(`no back end at ${path} (connect: No such file or directory)`);
  });

  test('nobody connects', async () => {
    await expect(FrontEnd.listen(path, 20)).rejects.toThrow(`no back end connected to ${path}`);
  });
});

/** A vhost-user message of a back end, with a payload of 8 bytes. */
function reply(request: number, flags: number, size = 8, payload = 0n): Uint8Array {
  const message = new DataView(new ArrayBuffer(20));
  for (const [n, word] of [request, flags, size].entries()) message.setUint32(4 * n, word, true);
  message.setBigUint64(12, payload, true);
  return new Uint8Array(message.buffer);
}

describe('back ends that break the vhost-user protocol', () => {
  const VERSION_REPLY = 5;

  test.each([
    ['nothing', new Uint8Array(0), /hung up at GET_FEATURES/],
    ['half a header', reply(1, VERSION_REPLY).subarray(0, 7), /hung up at GET_FEATURES/],
    ['half a payload', reply(1, VERSION_REPLY).subarray(0, 15), /hung up at GET_FEATURES/],
    ['an answer to something else', reply(17, VERSION_REPLY), /GET_FEATURES was answered by GET_QUEUE_NUM/],
    ['an unknown message', reply(999, VERSION_REPLY), /GET_FEATURES was answered by request 999/],
    ['no reply flag', reply(1, 1), /GET_FEATURES was answered by a message without the reply flag/],
    ['another version', reply(1, 6), /GET_FEATURES was answered in version 2/],
    ['an empty payload', reply(1, VERSION_REPLY, 0), /GET_FEATURES was answered by 0 bytes instead of 8/],
    ['a payload of 4 GiB', reply(1, VERSION_REPLY, 0xffff_ffff), /GET_FEATURES was answered by 4294967295 bytes/],
    ['no VERSION_1', reply(1, VERSION_REPLY, 8, 1n), /does not offer VIRTIO_F_VERSION_1/],
  ])('%s', async (_, bytes, complaint) => {
    const [ours, theirs] = addon.socketPair();
    const frontEnd = new FrontEnd(ours);
    const negotiation = frontEnd.negotiate([]);
    if (bytes.length > 0) addon.unixSend(theirs, bytes, 0, []);
    addon.close(theirs);
    await expect(negotiation).rejects.toThrow(complaint);
    frontEnd.close();
  });

  test('descriptors that nobody asked for are closed', () => {
    const before = readdirSync('/proc/self/fd').length;
    const [ours, theirs] = addon.socketPair();
    const frontEnd = new FrontEnd(ours);
    addon.unixSend(theirs, Uint8Array.of(0), 0, [theirs, theirs]);
    expect(frontEnd.isDisconnected()).toBe(false);
    addon.close(theirs);
    expect(frontEnd.isDisconnected()).toBe(true);
    frontEnd.close();
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });
});

describe('virtio 1.2 §5.1.3.1: features and their prerequisites', () => {
  const offered = DEVICE_FEATURES | VHOST_USER_F_PROTOCOL_FEATURES;

  test.each([
    ['CSUM', ['HOST_TSO4', 'HOST_TSO6']],
    ['GUEST_CSUM', ['GUEST_TSO4', 'GUEST_TSO6']],
    ['MRG_RXBUF', ['GUEST_TSO4', 'GUEST_TSO6']],
    ['EVENT_IDX', []],
  ] as const)('without %s, %j is not taken either', (refused, dependents) => {
    const all = featureNames(acceptFeatures(offered, []));
    const gone = [refused, ...dependents];
    expect(all).toEqual(expect.arrayContaining([...gone]));
    expect(featureNames(acceptFeatures(offered, [refused]))).toEqual(
      all.filter((name) => !gone.some((n) => n === name)),
    );
  });

  test('unknown bits are left alone, and named by number', () => {
    expect(acceptFeatures(1n << 50n, [])).toBe(0n);
    expect(featureNames((1n << 50n) | 1n)).toEqual(['CSUM', 'bit 50']);
  });
});
