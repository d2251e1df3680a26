/** What broken or hostile front ends send: each entry is one wrong request. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addon } from '../../../src/native/addon.js';
import * as fe from './frontEnd.js';

export const guest = new fe.Guest();
const [socket, otherEnd] = addon.socketPair();
const directory = openSync('/tmp', 'r');
const devNull = openSync('/dev/null', 'r+');
const fifo = makeFifo();
export const shrunk = addon.createMemory('shrunk', 4096);
export const MIB = 1 << 20;
const { region } = guest;
const BASE = region.userAddress;

/** Closes what the attacks are made of. */
export function disarm(): void {
  guest.close();
  for (const fd of [socket, otherEnd, shrunk]) addon.close(fd);
  for (const fd of [directory, devNull, fifo]) closeSync(fd);
}

/** A descriptor of a named pipe that is gone from the file system. */
function makeFifo(): number {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-fifo-'));
  const path = join(folder, 'fifo');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, 'r+');
  rmSync(folder, { recursive: true });
  return fd;
}

/** One wrong request. */
export interface Attack {
  readonly name: string;
  readonly request: number;
  readonly payload?: Uint8Array;
  readonly fds?: readonly number[];
  /** What the log line says. */
  readonly says: string;
}

const hugeRegion = (changes: Partial<fe.Region>): fe.Region => ({ ...region, ...changes });
const table = (...changes: Partial<fe.Region>[]): Uint8Array => fe.memoryTable(changes.map(hugeRegion));
const address = (desc: bigint, avail: bigint, used: bigint): Uint8Array => fe.vringAddress(0, desc, avail, used);

/** Requests that can't be obeyed on a connection where ring 0 runs. */
export const ATTACKS: readonly Attack[] = [
  // Features
  {
    name: 'SET_FEATURES with a bit not offered',
    request: fe.SET_FEATURES,
    payload: fe.u64(1n << 26n),
    says: 'not offered',
  },
  { name: 'SET_FEATURES with bit 63', request: fe.SET_FEATURES, payload: fe.u64(1n << 63n), says: 'not offered' },
  {
    name: 'SET_FEATURES with another set while a ring runs',
    request: fe.SET_FEATURES,
    payload: fe.u64(0),
    says: 'while it runs',
  },
  {
    name: 'SET_PROTOCOL_FEATURES with a bit not offered',
    request: fe.SET_PROTOCOL_FEATURES,
    payload: fe.u64(1n << 5n),
    says: 'not offered',
  },
  // Rings
  { name: 'SET_VRING_NUM 0', request: fe.SET_VRING_NUM, payload: fe.state(1, 0), says: 'power of two' },
  { name: 'SET_VRING_NUM 3', request: fe.SET_VRING_NUM, payload: fe.state(1, 3), says: 'power of two' },
  { name: 'SET_VRING_NUM 65536', request: fe.SET_VRING_NUM, payload: fe.state(1, 65536), says: 'power of two' },
  { name: 'SET_VRING_NUM 2^31', request: fe.SET_VRING_NUM, payload: fe.state(1, 0x8000_0000), says: 'power of two' },
  {
    name: 'SET_VRING_NUM on a running ring',
    request: fe.SET_VRING_NUM,
    payload: fe.state(0, 128),
    says: 'while it runs',
  },
  {
    name: 'SET_VRING_NUM of ring 5',
    request: fe.SET_VRING_NUM,
    payload: fe.state(5, 256),
    says: 'there is no ring 5: this device has 2 queue pairs',
  },
  {
    name: 'SET_VRING_NUM of ring 2^32 - 1',
    request: fe.SET_VRING_NUM,
    payload: fe.state(0xffff_ffff, 256),
    says: 'no ring',
  },
  { name: 'SET_VRING_BASE of ring 5', request: fe.SET_VRING_BASE, payload: fe.state(5, 0), says: 'no ring' },
  { name: 'SET_VRING_BASE 65536', request: fe.SET_VRING_BASE, payload: fe.state(1, 65536), says: '16-bit' },
  { name: 'SET_VRING_ENABLE of ring 5', request: fe.SET_VRING_ENABLE, payload: fe.state(5, 1), says: 'no ring' },
  { name: 'SET_VRING_ENABLE 2', request: fe.SET_VRING_ENABLE, payload: fe.state(0, 2), says: 'not 2' },
  { name: 'SET_VRING_ADDR of ring 255', request: fe.SET_VRING_ADDR, payload: guest.ringAddress(255), says: 'no ring' },
  {
    name: 'SET_VRING_ADDR on a running ring',
    request: fe.SET_VRING_ADDR,
    payload: address(BASE + 0x100n, BASE + 0x2000n, BASE + 0x3000n),
    says: 'while it runs',
  },
  // Descriptors of rings
  {
    name: 'SET_VRING_KICK of ring 5',
    request: fe.SET_VRING_KICK,
    payload: fe.u64(5),
    fds: [guest.kick],
    says: 'no ring',
  },
  {
    name: 'SET_VRING_CALL of ring 255',
    request: fe.SET_VRING_CALL,
    payload: fe.u64(255),
    fds: [guest.call],
    says: 'no ring',
  },
  { name: 'SET_VRING_ERR of ring 6', request: fe.SET_VRING_ERR, payload: fe.u64(6), fds: [guest.err], says: 'no ring' },
  {
    name: 'SET_VRING_KICK without a descriptor',
    request: fe.SET_VRING_KICK,
    payload: fe.u64(0),
    says: 'no descriptor came',
  },
  {
    name: 'SET_VRING_CALL without a descriptor',
    request: fe.SET_VRING_CALL,
    payload: fe.u64(0),
    says: 'no descriptor came',
  },
  {
    name: 'SET_VRING_KICK with one it says it has not',
    request: fe.SET_VRING_KICK,
    payload: fe.u64(fe.NO_FD),
    fds: [guest.kick],
    says: 'came with',
  },
  {
    name: 'SET_VRING_KICK with two',
    request: fe.SET_VRING_KICK,
    payload: fe.u64(0),
    fds: [guest.kick, guest.kick],
    says: '2 file descriptors',
  },
  {
    name: 'SET_VRING_KICK with memory',
    request: fe.SET_VRING_KICK,
    payload: fe.u64(0),
    fds: [guest.memory],
    says: 'no eventfd (file)',
  },
  {
    name: 'SET_VRING_KICK with a socket',
    request: fe.SET_VRING_KICK,
    payload: fe.u64(0),
    fds: [socket],
    says: 'no eventfd (socket)',
  },
  {
    name: 'SET_VRING_CALL with /dev/null',
    request: fe.SET_VRING_CALL,
    payload: fe.u64(0),
    fds: [devNull],
    says: 'no eventfd (other)',
  },
  {
    name: 'SET_VRING_ERR with a directory',
    request: fe.SET_VRING_ERR,
    payload: fe.u64(0),
    fds: [directory],
    says: 'no eventfd (other)',
  },
  // Memory
  {
    name: 'SET_MEM_TABLE with no region',
    request: fe.SET_MEM_TABLE,
    payload: fe.memoryTable([]),
    says: '0 memory regions',
  },
  {
    name: 'SET_MEM_TABLE with 65 regions',
    request: fe.SET_MEM_TABLE,
    payload: fe.memoryTable(Array.from({ length: 65 }, () => region)),
    fds: [guest.memory],
    says: '65 memory regions',
  },
  {
    name: 'SET_MEM_TABLE with 2^32 - 1 regions',
    request: fe.SET_MEM_TABLE,
    payload: fe.memoryTable([region], 0xffff_ffff),
    fds: [guest.memory],
    says: 'memory regions',
  },
  {
    name: 'SET_MEM_TABLE with fewer regions than it says',
    request: fe.SET_MEM_TABLE,
    payload: fe.memoryTable([region], 2),
    fds: [guest.memory],
    says: 'payload of 40 bytes instead of 72',
  },
  {
    name: 'SET_MEM_TABLE with more regions than it says',
    request: fe.SET_MEM_TABLE,
    payload: fe.memoryTable([region, region], 1),
    fds: [guest.memory],
    says: 'payload of 72 bytes instead of 40',
  },
  { name: 'SET_MEM_TABLE without its descriptor', request: fe.SET_MEM_TABLE, payload: table({}), says: 'came with 0' },
  {
    name: 'SET_MEM_TABLE with one descriptor too many',
    request: fe.SET_MEM_TABLE,
    payload: table({}),
    fds: [guest.memory, guest.memory],
    says: 'came with 2',
  },
  {
    name: 'SET_MEM_TABLE with an empty region',
    request: fe.SET_MEM_TABLE,
    payload: table({ size: 0 }),
    fds: [guest.memory],
    says: 'empty',
  },
  {
    name: 'a region beyond its file',
    request: fe.SET_MEM_TABLE,
    payload: table({ size: MIB + 4096 }),
    fds: [guest.memory],
    says: 'of a file that has 1048576',
  },
  {
    name: 'a region whose offset is beyond its file',
    request: fe.SET_MEM_TABLE,
    payload: table({ fileOffset: 2 * MIB }),
    fds: [guest.memory],
    says: 'of a file',
  },
  {
    name: 'a region in a file that was truncated',
    request: fe.SET_MEM_TABLE,
    payload: table({}),
    fds: [shrunk],
    says: 'of a file that has 4096',
  },
  {
    name: 'a region of 2^52 bytes',
    request: fe.SET_MEM_TABLE,
    payload: table({ size: 2 ** 52 }),
    fds: [guest.memory],
    says: '2^52',
  },
  {
    name: 'a region at guest address 2^52',
    request: fe.SET_MEM_TABLE,
    payload: table({ guestAddress: 2 ** 52 }),
    fds: [guest.memory],
    says: '2^52',
  },
  {
    name: 'a region that wraps in the user address space',
    request: fe.SET_MEM_TABLE,
    payload: table({ userAddress: 2n ** 64n - 4096n }),
    fds: [guest.memory],
    says: 'wraps',
  },
  {
    name: 'a region that is not aligned in the guest',
    request: fe.SET_MEM_TABLE,
    payload: table({ guestAddress: 0x4000_0001, size: 4096 }),
    fds: [guest.memory],
    says: 'aligned',
  },
  {
    name: 'a region that is not aligned in its file',
    request: fe.SET_MEM_TABLE,
    payload: table({ fileOffset: 1, size: 4096 }),
    fds: [guest.memory],
    says: 'aligned',
  },
  {
    name: 'regions that overlap in the guest',
    request: fe.SET_MEM_TABLE,
    payload: table({}, { guestAddress: region.guestAddress + MIB - 4096, userAddress: 0x1000n }),
    fds: [guest.memory, guest.memory],
    says: 'overlap at guest',
  },
  {
    name: 'regions that overlap in user space',
    request: fe.SET_MEM_TABLE,
    payload: table({}, { guestAddress: 0, userAddress: BASE + 4096n }),
    fds: [guest.memory, guest.memory],
    says: 'overlap at user',
  },
  {
    name: 'the same region twice',
    request: fe.SET_MEM_TABLE,
    payload: table({}, {}),
    fds: [guest.memory, guest.memory],
    says: 'overlap',
  },
  { name: 'a region in a socket', request: fe.SET_MEM_TABLE, payload: table({}), fds: [socket], says: 'no file' },
  { name: 'a region in an eventfd', request: fe.SET_MEM_TABLE, payload: table({}), fds: [guest.kick], says: 'no file' },
  { name: 'a region in a directory', request: fe.SET_MEM_TABLE, payload: table({}), fds: [directory], says: 'no file' },
  { name: 'a region in /dev/null', request: fe.SET_MEM_TABLE, payload: table({}), fds: [devNull], says: 'no file' },
  { name: 'a region in a pipe', request: fe.SET_MEM_TABLE, payload: table({}), fds: [fifo], says: 'no file' },
  {
    name: 'ADD_MEM_REG of a region that is there',
    request: fe.ADD_MEM_REG,
    payload: fe.singleRegion(region),
    fds: [guest.memory],
    says: 'overlap',
  },
  {
    name: 'ADD_MEM_REG without a descriptor',
    request: fe.ADD_MEM_REG,
    payload: fe.singleRegion(hugeRegion({ guestAddress: 0, userAddress: 0n })),
    says: '0 file descriptors',
  },
  {
    name: 'ADD_MEM_REG with two descriptors',
    request: fe.ADD_MEM_REG,
    payload: fe.singleRegion(region),
    fds: [guest.memory, guest.memory],
    says: '2 file descriptors',
  },
  {
    name: 'ADD_MEM_REG of a region beyond its file',
    request: fe.ADD_MEM_REG,
    payload: fe.singleRegion(hugeRegion({ guestAddress: 0, userAddress: 0n })),
    fds: [shrunk],
    says: 'of a file',
  },
  {
    name: 'REM_MEM_REG of an unknown region',
    request: fe.REM_MEM_REG,
    payload: fe.singleRegion(hugeRegion({ guestAddress: 0 })),
    says: 'no region',
  },
  {
    name: 'REM_MEM_REG of half a region',
    request: fe.REM_MEM_REG,
    payload: fe.singleRegion(hugeRegion({ size: MIB / 2 })),
    says: 'no region',
  },
  {
    name: 'REM_MEM_REG with two descriptors',
    request: fe.REM_MEM_REG,
    payload: fe.singleRegion(region),
    fds: [guest.memory, guest.memory],
    says: '2 file descriptors',
  },
  // Requests
  { name: 'request 0', request: 0, says: 'not supported' },
  {
    name: 'SET_LOG_BASE, which was not offered',
    request: 6,
    payload: new Uint8Array(16),
    fds: [guest.memory],
    says: 'not supported',
  },
  { name: 'SET_LOG_FD, which was not offered', request: 7, fds: [guest.err], says: 'not supported' },
  { name: 'NET_SET_MTU, which was not offered', request: 20, payload: fe.u64(1500), says: 'not supported' },
  { name: 'SET_BACKEND_REQ_FD, which was not offered', request: 21, fds: [socket], says: 'not supported' },
  { name: 'IOTLB_MSG, which was not offered', request: 22, payload: new Uint8Array(32), says: 'not supported' },
  { name: 'GET_INFLIGHT_FD, which was not offered', request: 31, payload: new Uint8Array(24), says: 'not supported' },
  { name: 'request 1000', request: 1000, payload: new Uint8Array(4096), says: 'not supported' },
  { name: 'request 2^32 - 1', request: 0xffff_ffff, says: 'not supported' },
  {
    name: 'SET_OWNER with a descriptor',
    request: fe.SET_OWNER,
    fds: [guest.kick],
    says: '1 file descriptors instead of 0',
  },
  {
    name: 'SET_FEATURES with descriptors',
    request: fe.SET_FEATURES,
    payload: fe.u64(0),
    fds: [guest.kick, guest.call],
    says: 'instead of 0',
  },
  { name: 'RESET_DEVICE with a descriptor', request: fe.RESET_DEVICE, fds: [guest.kick], says: 'instead of 0' },
];

/** Exact payload sizes; a byte more or less, none, or very many are wrong. */
const SIZES: readonly [name: string, request: number, size: number][] = [
  ['SET_FEATURES', fe.SET_FEATURES, 8],
  ['SET_OWNER', fe.SET_OWNER, 0],
  ['RESET_OWNER', fe.RESET_OWNER, 0],
  ['SET_MEM_TABLE', fe.SET_MEM_TABLE, 40],
  ['SET_VRING_NUM', fe.SET_VRING_NUM, 8],
  ['SET_VRING_ADDR', fe.SET_VRING_ADDR, 40],
  ['SET_VRING_BASE', fe.SET_VRING_BASE, 8],
  ['SET_VRING_KICK', fe.SET_VRING_KICK, 8],
  ['SET_VRING_CALL', fe.SET_VRING_CALL, 8],
  ['SET_VRING_ERR', fe.SET_VRING_ERR, 8],
  ['SET_PROTOCOL_FEATURES', fe.SET_PROTOCOL_FEATURES, 8],
  ['SET_VRING_ENABLE', fe.SET_VRING_ENABLE, 8],
  ['SEND_RARP', fe.SEND_RARP, 8],
  ['RESET_DEVICE', fe.RESET_DEVICE, 0],
  ['ADD_MEM_REG', fe.ADD_MEM_REG, 40],
  ['REM_MEM_REG', fe.REM_MEM_REG, 40],
];
export const WRONG_SIZES: readonly Attack[] = SIZES.flatMap(([name, request, size]) =>
  [...new Set([size - 1, size + 1, 0, 4096])]
    .filter((wrong) => wrong >= 0 && wrong !== size)
    .map((wrong) => ({
      name: `${name} with ${wrong} bytes`,
      request,
      payload: new Uint8Array(wrong),
      says: request === fe.SET_MEM_TABLE ? 'SET_MEM_TABLE' : 'payload of',
    })),
);
