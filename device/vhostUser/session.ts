/**
 * One front end's connection, from its first message to the release of all it had handed over.
 *
 * Messages are obeyed one at a time, in order, each to its end before the next is read. A request that can't be obeyed is
 * answered so where the front end asked for an answer (REPLY_ACK); else it ends the connection, and so does whatever the
 * data plane fails at.
 *
 * Requests are not refused for a protocol feature that was not negotiated: front ends differ in the order in which they
 * ask, and no answer here does harm.
 */
import type { Addon } from '../../src/native/addon.js';
import type { DeviceConfig, DeviceDataPlane } from '../dataPlane.js';
import { DEVICE_FEATURES, featuresFault, usableFeatures, VHOST_USER_F_PROTOCOL_FEATURES } from '../features.js';
import type { FrontLog } from '../limitedLog.js';
import { NET_CONFIG_SIZE, netConfigSpace } from '../netConfig.js';
import { errorText, VhostUserProtocolError, VhostUserRequestError } from './errors.js';
import { checkedRegion, MemoryTable } from './memoryTable.js';
import type { VhostMemoryRegion } from './memoryTable.js';
import * as wire from './messages.js';
import { closeAll, MessageSocket } from './messageSocket.js';
import { NO_FD } from './vring.js';
import { Vrings } from './vrings.js';

const { Request } = wire;

/** How a connection ended. */
export interface SessionEnd {
  /** What the front end, or the data plane, did wrong; `undefined` if the front end left, or `close` was called. */
  readonly failure: string | undefined;
  /** The front end sent a message. */
  readonly spoke: boolean;
  /** The front end got so far as to share its memory. */
  readonly setUp: boolean;
}

const OFFERED_FEATURES = DEVICE_FEATURES | VHOST_USER_F_PROTOCOL_FEATURES;
const ACK = wire.encodeU64(0n);
const NACK = wire.encodeU64(1n);
/** GET_CONFIG: "back-end uses zero length of payload to indicate an error". */
const NO_CONFIG = new Uint8Array(0);

export class VhostUserSession {
  private readonly socket: MessageSocket;
  private readonly vrings: Vrings;
  private readonly configSpace: Uint8Array;
  private memory = MemoryTable.EMPTY;
  private features: bigint | undefined;
  private protocolFeatures = 0n;
  private closing = false;
  private setUp = false;
  /** The front end has sent a whole message. */
  spoke = false;
  /** The connection is over; what it had handed over is being released. */
  over = false;

  /** Takes the connected socket over. */
  constructor(
    private readonly addon: Addon,
    fd: number,
    private readonly dataPlane: DeviceDataPlane,
    config: DeviceConfig,
    private readonly log: FrontLog,
    /** Called once, when the front end has shared its memory. */
    private readonly onSetUp: () => void = () => undefined,
  ) {
    this.socket = new MessageSocket(addon, fd);
    this.vrings = new Vrings(addon, dataPlane);
    this.configSpace = netConfigSpace(config);
  }

  /** Serves the connection to its end and releases everything. Never rejects. */
  async run(): Promise<SessionEnd> {
    this.dataPlane.onQueueBroken = (queue, reason) => this.queueBroken(queue, reason);
    const leftover: number[] = [];
    let failure: string | undefined;
    try {
      await this.serve(leftover);
    } catch (error) {
      if (!this.closing) failure = errorText(error);
    }
    this.socket.close();
    this.over = true;
    try {
      // Who said nothing has changed nothing.
      if (this.spoke) await this.dataPlane.reset();
    } catch (error) {
      failure ??= `the data plane could not be reset: ${errorText(error)}`;
    }
    this.dataPlane.onQueueBroken = () => undefined;
    // Only now: a worker may have used any of these until the reset.
    this.vrings.release();
    this.closeRegions(this.memory.regions);
    closeAll(this.addon, leftover);
    return { failure, spoke: this.spoke, setUp: this.setUp };
  }

  /** Ends the connection; `run` resolves soon. */
  close(): void {
    this.closing = true;
    this.socket.close();
  }

  /** Obeys messages until the connection ends. Descriptors of a message that broke it off are left in `leftover`. */
  private async serve(leftover: number[]): Promise<void> {
    for (;;) {
      const message = await this.socket.receive();
      if (message === undefined) return;
      this.spoke = true;
      try {
        await this.answer(message);
        closeAll(this.addon, message.fds);
      } catch (error) {
        leftover.push(...message.fds);
        throw new VhostUserProtocolError(`${wire.requestName(message.header.request)}: ${errorText(error)}`);
      }
    }
  }

  private async answer(message: wire.Message): Promise<void> {
    const { request, needReply } = message.header;
    let reply: Uint8Array | undefined;
    try {
      wire.checkShape(message);
      reply = await this.obey(message);
      if (needReply && this.acknowledges) reply ??= ACK;
    } catch (error) {
      if (!(error instanceof VhostUserRequestError)) throw error;
      reply = this.refusal(message);
      if (reply === undefined && !error.harmless) throw error;
      this.log.warn(`vhost-user: ${wire.requestName(request)} refused: ${error.message}`);
    }
    if (reply !== undefined) await this.socket.send(wire.encodeReply(request, reply));
  }

  private get acknowledges(): boolean {
    return (this.protocolFeatures & wire.ProtocolFeature.REPLY_ACK) !== 0n;
  }

  /** The reply to a request that can't be obeyed; `undefined` if the protocol has none. */
  private refusal({ header }: wire.Message): Uint8Array | undefined {
    if (header.request === Request.GET_CONFIG) return NO_CONFIG;
    // An acknowledgement in place of GET_VRING_BASE's or another's own reply would be taken for the value asked for.
    const hasOwnReply = wire.HAS_OWN_REPLY.has(header.request);
    return header.needReply && this.acknowledges && !hasOwnReply ? NACK : undefined;
  }

  /** Does what the message asks for. Returns the reply's payload, if the request has one of its own. */
  private async obey(message: wire.Message): Promise<Uint8Array | undefined> {
    const { payload } = message;
    switch (message.header.request) {
      case Request.GET_FEATURES:
        return wire.encodeU64(OFFERED_FEATURES);
      case Request.SET_FEATURES:
        return await this.setFeatures(wire.decodeU64(payload));
      case Request.GET_PROTOCOL_FEATURES:
        return wire.encodeU64(wire.PROTOCOL_FEATURES);
      case Request.SET_PROTOCOL_FEATURES:
        return this.setProtocolFeatures(wire.decodeU64(payload));
      case Request.GET_QUEUE_NUM:
        return wire.encodeU64(BigInt(this.vrings.count));
      case Request.GET_MAX_MEM_SLOTS:
        return wire.encodeU64(BigInt(wire.MAX_MEM_SLOTS));
      case Request.SET_MEM_TABLE:
        return await this.setMemoryTable(message);
      case Request.ADD_MEM_REG:
        return await this.addMemoryRegion(message);
      case Request.REM_MEM_REG:
        return await this.replaceMemory(this.memory.without(wire.decodeSingleRegion(payload)));
      case Request.GET_CONFIG:
        return wire.encodeConfig(wire.decodeConfigAccess(payload, NET_CONFIG_SIZE), this.configSpace);
      case Request.SET_CONFIG:
        // virtio 1.2 §5.1.4: all fields are read-only for the driver. A guest can make its front end ask: no reason to end.
        throw new VhostUserRequestError('all fields of the configuration space are read-only', true);
      case Request.RESET_DEVICE:
        return await this.resetDevice();
      // "VHOST_USER_SET_OWNER […] can be used as a session start flag"; "back-ends either ignore [RESET_OWNER] or …";
      // the NAT has no neighbours to whom a migrated guest's RARP would tell anything.
      case Request.SET_OWNER:
      case Request.RESET_OWNER:
      case Request.SEND_RARP:
        return undefined;
      default:
        return await this.obeyVring(message);
    }
  }

  private async obeyVring(message: wire.Message): Promise<Uint8Array | undefined> {
    const { payload } = message;
    if (message.header.request === Request.SET_VRING_ADDR) {
      const addresses = wire.decodeVringAddresses(payload);
      await this.vrings.setAddresses(addresses.index, addresses);
      return undefined;
    }
    const { index, num } = wire.decodeVringState(payload);
    switch (message.header.request) {
      case Request.SET_VRING_NUM:
        await this.vrings.setSize(index, num);
        return undefined;
      case Request.SET_VRING_BASE:
        await this.vrings.setBase(index, num);
        return undefined;
      case Request.GET_VRING_BASE:
        return wire.encodeVringState({ index, num: await this.vrings.stopForGood(index) });
      case Request.SET_VRING_ENABLE:
        await this.vrings.setEnabled(index, num);
        return undefined;
      default:
        return await this.setVringFd(message);
    }
  }

  /** SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR. */
  private async setVringFd(message: wire.Message): Promise<undefined> {
    const { index, noFd } = wire.decodeVringFd(message.payload);
    const fd = noFd ? NO_FD : message.fds[0];
    if (fd === undefined || (noFd && message.fds.length > 0)) {
      throw new VhostUserRequestError(noFd ? 'a descriptor came with "no descriptor"' : 'no descriptor came with it');
    }
    if (fd !== NO_FD) {
      const { kind } = this.addon.fdInfo(fd);
      if (kind !== 'eventfd') throw new VhostUserRequestError(`the descriptor is no eventfd (${kind})`);
      this.addon.setNonBlocking(fd);
    }
    if (message.header.request === Request.SET_VRING_KICK) await this.vrings.setKick(index, fd);
    else if (message.header.request === Request.SET_VRING_CALL) await this.vrings.setCall(index, fd);
    else this.vrings.setErr(index, fd);
    message.fds.length = 0;
    return undefined;
  }

  private async setFeatures(features: bigint): Promise<undefined> {
    // QEMU tells the same set once for each queue pair, when the pairs before already run.
    if (features === this.features) return;
    const accepted = features & ~VHOST_USER_F_PROTOCOL_FEATURES;
    const fault = featuresFault(accepted);
    if (fault !== undefined) throw new VhostUserRequestError(fault);
    await this.vrings.setFeatures(features);
    await this.dataPlane.setFeatures(usableFeatures(accepted));
    this.features = features;
  }

  private setProtocolFeatures(features: bigint): undefined {
    const foreign = features & ~wire.PROTOCOL_FEATURES;
    if (foreign !== 0n) throw new VhostUserRequestError(`bits 0x${foreign.toString(16)} were not offered`);
    this.protocolFeatures = features;
  }

  private async setMemoryTable(message: wire.Message): Promise<undefined> {
    const descriptions = wire.decodeMemoryTable(message.payload);
    if (descriptions.length !== message.fds.length) {
      throw new VhostUserRequestError(
        `${descriptions.length} regions came with ${message.fds.length} file descriptors`,
      );
    }
    const table = MemoryTable.of(descriptions.map((description, n) => this.region(description, message.fds[n]!)));
    message.fds.length = 0;
    await this.replaceMemory(table);
  }

  private async addMemoryRegion(message: wire.Message): Promise<undefined> {
    const table = this.memory.with(this.region(wire.decodeSingleRegion(message.payload), message.fds[0]!));
    message.fds.length = 0;
    await this.replaceMemory(table);
  }

  private region(description: wire.RegionDescription, fd: number): VhostMemoryRegion {
    return checkedRegion(description, fd, this.addon.fdInfo(fd));
  }

  /**
   * Hands new memory to the data plane and closes the files of what went; memory that can't be mapped changes nothing. The
   * table's files are taken over at once.
   */
  private async replaceMemory(table: MemoryTable): Promise<undefined> {
    const old = this.memory;
    // For `run` to close, whatever fails from here on.
    this.memory = MemoryTable.union(old, table);
    await this.vrings.pauseFor(table);
    let failure: unknown;
    try {
      await this.dataPlane.setMemory(table.regions);
      this.memory = table;
    } catch (error) {
      failure = error;
      this.memory = old;
    }
    const kept = new Set(this.memory.regions);
    this.closeRegions([...new Set([...old.regions, ...table.regions])].filter((region) => !kept.has(region)));
    await this.vrings.resumeIn(this.memory);
    if (failure === undefined) this.markSetUp();
    if (failure !== undefined) throw new VhostUserRequestError(`guest memory can't be mapped: ${errorText(failure)}`);
  }

  /**
   * "Disable all rings and reset all internal device state to the initial state […] The back-end retains ownership."
   * Memory stays: front ends that tell only its changes (CONFIGURE_MEM_SLOTS) would never tell it again.
   */
  private async resetDevice(): Promise<undefined> {
    await this.vrings.reset();
    await this.dataPlane.setFeatures(0n);
    this.features = undefined;
  }

  private queueBroken(queue: number, reason: string): void {
    const ring = this.vrings.markBroken(queue);
    if (ring !== undefined) this.log.warn(`vhost-user: ring ${ring} is stopped, its driver broke the rules: ${reason}`);
  }

  private markSetUp(): void {
    if (!this.setUp) this.onSetUp();
    this.setUp = true;
  }

  private closeRegions(regions: readonly VhostMemoryRegion[]): void {
    for (const { fd } of regions) this.addon.close(fd);
  }
}
