/** A virtio network card on the PCI bus (virtio 1.2 §5.1). */
import type { DeviceConfig, DeviceDataPlane } from '../dataPlane.js';
import {
  PCI_DEVICE_FEATURES,
  pciFeaturesFault,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_STATUS,
} from '../features.js';
import { netConfigSpace, NET_CONFIG_FIELDS, OFFSET_MAC, OFFSET_STATUS } from '../netConfig.js';
import { VIRTIO_NET_S_ANNOUNCE, VIRTIO_NET_S_LINK_UP } from '../netState.js';
import type { VirtioModel } from '../model.js';
import { VirtioPci, type VirtioPciOptions } from './virtioPci.js';

export interface VirtioNetPciOptions extends Omit<VirtioPciOptions, 'model'> {
  /** Driven by this device alone; its memory is set. */
  readonly dataPlane: DeviceDataPlane;
  readonly config: DeviceConfig;
}

class NetModel implements VirtioModel {
  readonly deviceId = 1;
  readonly classCode = 0x02_0000;
  readonly queues: number;
  readonly features = PCI_DEVICE_FEATURES;
  readonly featuresFault = pciFeaturesFault;
  readonly configLength = NET_CONFIG_FIELDS;

  constructor(
    readonly plane: DeviceDataPlane,
    private readonly config: DeviceConfig,
  ) {
    this.queues = 2 * config.pairs + 1;
  }

  /** §5.1.2: the control queue is number 2N, where "N=1 if neither VIRTIO_NET_F_MQ nor VIRTIO_NET_F_RSS are negotiated". */
  placeOf(index: number, features: bigint): number {
    const last = this.queues - 1;
    const control = (features & VIRTIO_NET_F_MQ) !== 0n ? last : 2;
    if (index < control) return index;
    return index === control && (features & VIRTIO_NET_F_CTRL_VQ) !== 0n ? last : -1;
  }

  reset(): void {
    this.plane.net.reset(this.config.mac);
  }

  negotiate(features: bigint): void {
    this.plane.net.negotiate(features);
  }

  /** With what the control queue and the front changed in it. */
  configSpace(): Uint8Array {
    const space = netConfigSpace(this.config);
    space.set(this.plane.net.mac, OFFSET_MAC);
    space[OFFSET_STATUS] = this.plane.net.status;
    return space;
  }

  get generation(): number {
    return this.plane.net.generation;
  }
}

export class VirtioNetPci extends VirtioPci {
  private readonly dataPlane: DeviceDataPlane;

  constructor({ dataPlane, config, ...options }: VirtioNetPciOptions) {
    super({ ...options, model: new NetModel(dataPlane, config) });
    this.dataPlane = dataPlane;
  }

  /** Tells the driver to send gratuitous packets, as after a restore (§5.1.2, GUEST_ANNOUNCE). False: it can't be told. */
  announce(): boolean {
    const wanted = VIRTIO_NET_F_GUEST_ANNOUNCE | VIRTIO_NET_F_STATUS;
    if ((this.life.negotiated & wanted) !== wanted) return false;
    this.changeStatus(VIRTIO_NET_S_ANNOUNCE, true);
    return true;
  }

  /** Plugs the link in or out, as the driver sees it. */
  setLink(up: boolean): void {
    this.changeStatus(VIRTIO_NET_S_LINK_UP, up);
  }

  private changeStatus(bits: number, set: boolean): void {
    const { net } = this.dataPlane;
    if (((net.status & bits) !== 0) === set) return;
    net.setStatus(bits, set);
    this.life.configChanged();
  }
}
