/** The command line's options, checked: one typed configuration per command. */
import type { output as Output, ZodType } from 'zod';
import { z } from './schema.js';
import { ENGINE_CHOICES } from '../workers/engine/engine.js';
import { UsageError } from './errors.js';
import { LEAST_MEMORY_MIB, MAX_CPUS, MOST_MEMORY_MIB } from './limits.js';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** sun_path of unix(7) holds 108 bytes with the NUL that ends it. */
export const MAX_SOCKET_PATH = 107;

/** A whole number within bounds, from the command line's text. */
function integer(minimum: number, maximum: number): ZodType<number, string> {
  const error = `must be a whole number from ${minimum} to ${maximum}`;
  return z
    .string()
    .regex(/^\d{1,9}$/, { error })
    .transform(Number)
    .pipe(z.number().min(minimum, { error }).max(maximum, { error }));
}

function oneOf<const T extends readonly [string, ...string[]]>(values: T): ZodType<T[number], string> {
  return z.enum(values, { error: `must be one of ${values.join(', ')}` }) as ZodType<T[number], string>;
}

const socketPath = z
  .string()
  .min(1, { error: 'must be a path' })
  .refine((path) => Buffer.byteLength(path) <= MAX_SOCKET_PATH, {
    error: `must be at most ${MAX_SOCKET_PATH} bytes long, as the path of a UNIX socket`,
  })
  .refine((path) => !path.includes('\0'), { error: 'must not hold NUL characters' });

/** `HOST:GUEST`; the host's path may hold colons. */
const fileMapping = z
  .string()
  .regex(/^.+:\/[^:]*$/, { error: 'must be HOST:GUEST, GUEST being an absolute path' })
  .transform((text) => ({ host: text.slice(0, text.lastIndexOf(':')), guest: text.slice(text.lastIndexOf(':') + 1) }));

const networkOptions = {
  /** Poll workers; `defaultWorkers` if left out. */
  workers: integer(1, MAX_CPUS).optional(),
  /** Bytes (virtio 1.2 §5.1.4.1). */
  mtu: integer(68, 65_535),
  allowHostLoopback: z.boolean(),
  udpTimeoutMs: integer(1_000, 86_400_000),
  dns: z.string(),
  engine: oneOf(ENGINE_CHOICES),
  timing: z.boolean(),
  logLevel: oneOf(LOG_LEVELS),
};

const runSchema = z.object({
  ...networkOptions,
  cpus: integer(1, MAX_CPUS),
  memory: integer(LEAST_MEMORY_MIB, MOST_MEMORY_MIB),
  /** Queue pairs; one per vCPU if left out. */
  queues: integer(1, MAX_CPUS).optional(),
  file: z.array(fileMapping),
  kernel: z.string().min(1, { error: 'must be a path' }).optional(),
  accel: oneOf(['auto', 'kvm', 'tcg']),
  vmm: oneOf(['auto', 'kvm', 'qemu']),
  console: z.boolean(),
});

const serveSchema = z.object({
  ...networkOptions,
  vhostUser: socketPath,
  queues: integer(1, MAX_CPUS),
  client: z.boolean(),
});

export type RunConfig = Output<typeof runSchema>;
export type ServeConfig = Output<typeof serveSchema>;

/** @throws {UsageError} naming the first flag that is wrong */
export function parseRunConfig(flags: unknown): RunConfig {
  return check(runSchema, flags);
}

/** @throws {UsageError} naming the first flag that is wrong */
export function parseServeConfig(flags: unknown): ServeConfig {
  return check(serveSchema, flags);
}

function check<T>(schema: ZodType<T>, flags: unknown): T {
  const result = schema.safeParse(flags);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const [key, ...rest] = issue?.path ?? [];
  const flag = `--${String(key).replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  const given = valueAt(flags, key, rest);
  throw new UsageError(`${flag} ${issue?.message ?? 'is wrong'}${given === undefined ? '' : `, not "${given}"`}`);
}

function valueAt(flags: unknown, key: PropertyKey | undefined, rest: readonly PropertyKey[]): string | undefined {
  let value = flags;
  for (const part of key === undefined ? [] : [key, ...rest]) {
    value = (value as Record<PropertyKey, unknown> | undefined)?.[part];
  }
  return typeof value === 'string' ? value.slice(0, 200) : undefined;
}
