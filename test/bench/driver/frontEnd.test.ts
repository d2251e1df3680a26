import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DEVICE_DEFAULTS, DriverDevice } from '../../../bench/driver/device.js';
import { acceptFeatures, featureNames } from '../../../bench/driver/features.js';
import { FrontEnd } from '../../../bench/driver/frontEnd.js';
import { DEVICE_FEATURES, VHOST_USER_F_PROTOCOL_FEATURES } from '../../../device/features.js';
import { VhostUserServer } from '../../../device/vhostUser/server.js';
import { addon } from '../../../src/native/addon.js';
import { PeerNetwork, RX_BUFFER } from './peerNetwork.js';

const MAC = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3);

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'slipway-frontend-'));
  path = join(folder, 'socket');
});
afterEach(() => rmSync(folder, { recursive: true }));

function serve(mode: 'server' | 'client', pairs: number): { server: VhostUserServer; peer: PeerNetwork } {
  const peer = new PeerNetwork(pairs);
  const log = { info: () => undefined, warn: () => undefined };
  const server = new VhostUserServer({ path, mode, device: peer, config: { mac: MAC, mtu: 9000, pairs }, log });
  server.start();
  return { server, peer };
}

describe('bring-up', () => {
  test('takes every feature both sides know, reads the configuration space, starts all queues', async () => {
    const { server, peer } = serve('server', 2);
    const device = await DriverDevice.open(FrontEnd.connect(path), {
      ...DEVICE_DEFAULTS,
      pairs: 2,
      rxBufferSize: RX_BUFFER,
    });
    expect(featureNames(device.negotiated.features)).toEqual(
      expect.arrayContaining(['CSUM', 'GUEST_TSO4', 'HOST_TSO4', 'MRG_RXBUF', 'MQ', 'EVENT_IDX', 'VERSION_1']),
    );
    expect(device.config).toEqual({ mac: MAC, maxPairs: 2, mtu: 9000 });
    expect(await device.frontEnd.stopQueue(0)).toBe(0);
    expect(device.frontEnd.isDisconnected()).toBe(false);
    await server.close();
    expect(device.frontEnd.isDisconnected()).toBe(true);
    device.close();
    peer.close();
  });

  test('the back end in client mode: the front end listens', async () => {
    const listening = FrontEnd.listen(path);
    const { server, peer } = serve('client', 1);
    const device = await DriverDevice.open(await listening, DEVICE_DEFAULTS);
    expect(device.config?.mac).toEqual(MAC);
    device.close();
    await server.close();
    peer.close();
  });

  test('more queue pairs than the back end has are refused in words', async () => {
    const { server, peer } = serve('server', 2);
    await expect(DriverDevice.open(FrontEnd.connect(path), { ...DEVICE_DEFAULTS, pairs: 3 })).rejects.toThrow(
      '3 queue pairs are wanted, the back end has 2',
    );
    await server.close();
    peer.close();
  });

  test('a socket where nobody listens', () => {
    expect(() => FrontEnd.connect(path)).toThrow(`no back end at ${path} (connect: No such file or directory)`);
  });

  test('nobody connects', async () => {
    await expect(FrontEnd.listen(path, 20)).rejects.toThrow(`no back end connected to ${path}`);
  });

  test('a back end that hangs up', async () => {
    const [ours, theirs] = addon.socketPair();
    const frontEnd = new FrontEnd(ours);
    const negotiation = frontEnd.negotiate([]);
    addon.close(theirs);
    await expect(negotiation).rejects.toThrow(/GET_FEATURES/);
    frontEnd.close();
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
